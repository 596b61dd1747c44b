"""Test links to CKAN against a server that answers as its API does (https://docs.ckan.org/en/latest/api/)."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from pangeo_binder.archives.base import list_files
from pangeo_binder.builders.checkout import check_out
from pangeo_binder.errors import HostUnavailable, RepoNotFound
from pangeo_binder.git import GitAccess
from pangeo_binder.model import Click
from pangeo_binder.repos.ckan import CkanProvider
from tests.contracts.archive import ArchiveContract
from tests.contracts.provider import SECRET, Provided
from tests.repos.recordserver import ACTIVITY, DATA, RecordServer, file_server, records, resolved

__all__ = ["file_server", "records"]

SHOW = "/api/3/action/package_show?id=my-data"


@pytest.fixture
def ckan(records: RecordServer) -> CkanProvider:
    return CkanProvider((records.url,))


class TestCkanProvider(ArchiveContract):
    """Datasets of CKAN sites."""

    @pytest.fixture
    def provided(self, records: RecordServer, ckan: CkanProvider) -> Provided:
        page = f"{records.url}/dataset/my-data"
        return Provided(
            provider=ckan,
            typed=page,
            own=(
                *(quote(page, safe=""), f"{page}/", f"{records.url}/open/dataset/my-data", f"{page}/resource/r1"),
                *(quote(f"{page}?activity_id={ACTIVITY}", safe=""), f"{page}/history/{ACTIVITY}"),
            ),
            foreign=(),
            bad=(
                *(
                    "my-data",
                    f"{records.url}/dataset/",
                    f"{records.url}/my-data",
                    "file:///dataset/x",
                    f"{page}%2F..%2Fx",
                ),
                *(f"{page}?activity_id=../x", f"{page}%00", "https:///dataset/x", f"{records.url}/a/../dataset/x"),
            ),
            secret=(f"https://me:{SECRET}@example.org/dataset/x", f"https://example.org/dataset/x?api_key={SECRET}"),
            unknown_ref="",
            unknown_repository=f"{records.url}/dataset/none",
            revision=f"my-data[.]v1714979289([.]{ACTIVITY})?",
        )


@pytest.mark.parametrize("form", ["?activity_id={}", "/history/{}"])
async def test_an_activity_is_kept_in_the_link(records: RecordServer, ckan: CkanProvider, form: str) -> None:
    spec = quote(f"{records.url}/open/dataset/my-data{form.format(ACTIVITY)}", safe="")
    repo = await resolved(ckan, spec)
    assert (repo.ref.url, repo.ref.ref) == (f"{records.url}/open/dataset/my-data", ACTIVITY)
    link = ckan.link(Click("ckan", spec, "192.0.2.1", "/hub/"), repo)
    assert link.ref_url == f"{records.url}/open/dataset/my-data?activity_id={ACTIVITY}"
    assert await resolved(ckan, link.persistent_request.removeprefix("v2/ckan/")) == repo
    assert [each.path for each in (await list_files(repo)).files] == ["a.csv"]


async def test_an_activity_of_another_dataset_is_refused(records: RecordServer, ckan: CkanProvider) -> None:
    records.say(
        "/api/3/action/package_show?id=other", {"result": {"id": "2", "metadata_modified": "2024-05-06T07:08:09"}}
    )
    with pytest.raises(RepoNotFound, match="does not have what the link names"):
        await resolved(ckan, f"{records.url}/dataset/other/history/{ACTIVITY}")


async def test_files_are_named_by_their_addresses_and_each_is_kept(records: RecordServer, ckan: CkanProvider) -> None:
    listed = await list_files(await resolved(ckan, f"{records.url}/dataset/my-data"))
    assert [each.path for each in listed.files] == ["a.csv", "r2-A.csv", "r3"]
    assert not listed.unpack


@pytest.mark.parametrize("site", ["http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9", "http://10.0.0.1"])
async def test_private_sites_are_not_contacted(records: RecordServer, site: str) -> None:
    with pytest.raises(RepoNotFound, match="not at a public address"):
        await resolved(CkanProvider(), f"{site}/dataset/my-data")
    with pytest.raises(RepoNotFound, match="not at a public address"):
        await resolved(CkanProvider(), f"{records.url}/dataset/my-data")
    assert records.server.asked == []


async def test_a_private_site_is_not_contacted_by_the_builder(records: RecordServer, ckan: CkanProvider) -> None:
    repo = await resolved(ckan, f"{records.url}/dataset/my-data")
    asked = len(records.server.asked)
    with pytest.raises(RepoNotFound, match="not at a public address"):
        await list_files(replace(repo, files_url=repo.files_url.partition("#")[0]))
    assert len(records.server.asked) == asked


@pytest.mark.parametrize("answer", [{}, {"result": None}, {"result": {"metadata_modified": "soon"}}, [], 1])
async def test_bad_answers_are_one_sentence(records: RecordServer, ckan: CkanProvider, answer: object) -> None:
    records.say(SHOW, answer)
    with pytest.raises(HostUnavailable, match="The CKAN site did not answer as documented"):
        await resolved(ckan, f"{records.url}/dataset/my-data")


@pytest.mark.processes
async def test_a_dataset_is_checked_out(records: RecordServer, ckan: CkanProvider, tmp_path: Path) -> None:
    records.server.files["/download/a.csv"] = DATA
    repo = await resolved(ckan, f"{records.url}/dataset/my-data/history/{ACTIVITY}")
    into = tmp_path / "checkout"
    async for _ in check_out(repo, into, GitAccess(), time.monotonic() + 60):
        pass
    assert (into / "a.csv").read_bytes() == DATA
