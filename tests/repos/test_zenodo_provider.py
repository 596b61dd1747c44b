"""Test links to Zenodo against a server that answers as its API does (https://developers.zenodo.org/#records)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pangeo_binder.archives.base import list_files
from pangeo_binder.builders.checkout import check_out
from pangeo_binder.errors import HostBusy, HostUnavailable, RepoNotFound, RepoTooLarge, UserError
from pangeo_binder.git import GitAccess
from pangeo_binder.model import Click
from pangeo_binder.repos.zenodo import ZenodoProvider
from tests.contracts.archive import ArchiveContract
from tests.contracts.provider import SECRET, Provided
from tests.repos.recordserver import RecordServer, file_server, records, resolved

__all__ = ["file_server", "records"]


@pytest.fixture
def zenodo(records: RecordServer) -> ZenodoProvider:
    return ZenodoProvider(records.url, records.url)


class TestZenodoProvider(ArchiveContract):
    """Records of Zenodo."""

    @pytest.fixture
    def provided(self, records: RecordServer, zenodo: ZenodoProvider) -> Provided:
        page = records.url
        return Provided(
            provider=zenodo,
            typed=f"{page}/records/102",
            own=(
                *("10.5281/zenodo.102", "10.5281%2Fzenodo.102", "102", "https://doi.org/10.5281/zenodo.102"),
                *(f"{page}/record/102", f"{page}/records/102?preview=1", f"{page}/records/102/files/repo.zip"),
                *(
                    f"{page.replace('//', '/')}/records/102",
                    f"{page}/doi/10.5281/zenodo.102",
                    "doi:10.5281/ZENODO.102",
                    f"{page}/records/102/",
                ),
            ),
            foreign=(),
            bad=(
                *("zenodo", "10.5281", "10.5281/", "x102", f"{page}/communities/102", f"{page}/records/", "-102"),
                *("https://example.org/records/102", f"{page}.example.org/records/102", "file:///records/102"),
                *("10.5281/../../x", f"{page}/records/102%00", "1" * 13, f"{page}/records/x"),
            ),
            secret=(f"http://me:{SECRET}@127.0.0.1/records/102", f"{page}/records/102?preview=1&token={SECRET}"),
            unknown_ref="",
            unknown_repository="10.5281/zenodo.404",
            revision="102",
        )


@pytest.mark.parametrize("spec", ["10.5281/zenodo.100", "10.5281/zenodo.200", "10.1234/other", "records/102"])
async def test_all_ways_to_a_record_have_its_one_address(
    records: RecordServer, zenodo: ZenodoProvider, spec: str
) -> None:
    repo = await resolved(zenodo, spec if spec.startswith("10.") else f"{records.url}/{spec}")
    assert repo == await resolved(zenodo, "102")
    assert (repo.ref.url, repo.ref.ref, repo.revision) == (f"{records.url}/records/102", "", "102")
    assert repo.files_url == f"{records.url}/api/records/102"
    link = zenodo.link(Click("zenodo", spec, "192.0.2.1", "/hub/"), repo)
    assert link.persistent_request == "v2/zenodo/10.5281/zenodo.102"
    assert link.ref_url == repo.ref.url


async def test_a_doi_that_leads_elsewhere_is_refused(zenodo: ZenodoProvider) -> None:
    with pytest.raises(RepoNotFound, match="does not lead to a record of Zenodo"):
        await resolved(zenodo, "10.1234/elsewhere")
    with pytest.raises(RepoNotFound, match="The DOI resolver does not have"):
        await resolved(zenodo, "10.1234/none")


async def test_only_a_record_of_one_zip_is_unpacked(zenodo: ZenodoProvider) -> None:
    one, two = [await list_files(await resolved(zenodo, spec)) for spec in ("102", "101")]
    assert (one.unpack, [each.path for each in one.files]) == (True, ["repo.zip"])
    assert (two.unpack, [each.path for each in two.files]) == (False, ["a.csv", "b.zip"])
    assert one.files[0].checksum.startswith("md5:")


async def test_files_are_read_in_the_form_of_inveniordm_too(zenodo: ZenodoProvider, records: RecordServer) -> None:
    """https://inveniordm.docs.cern.ch/reference/rest_api_drafts_records/#list-a-drafts-files"""
    repo = await resolved(zenodo, "102")
    entry = {
        "key": "a/b.csv",
        "size": 3,
        "checksum": "md5:00",
        "links": {"self": "x", "content": "https://c.example/b"},
    }
    records.say("/api/records/102", {"id": "102", "files": {"enabled": True, "count": 1}})
    records.say("/api/records/102/files", {"enabled": True, "entries": [entry]})
    (file,) = (await list_files(repo)).files
    assert (file.path, file.url, file.size_bytes, file.checksum) == ("a/b.csv", "https://c.example/b", 3, "md5:00")


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (401, RepoNotFound, "does not show this record to everyone"),
        (403, RepoNotFound, "does not show this record to everyone"),
        (410, RepoNotFound, "does not have"),
        (429, HostBusy, "does not answer more questions"),
        (500, HostUnavailable, "does not answer this binder"),
        (503, HostUnavailable, "does not answer this binder"),
    ],
)
async def test_each_bad_status_is_one_sentence(
    records: RecordServer, zenodo: ZenodoProvider, status: int, error: type[UserError], says: str
) -> None:
    records.server.statuses["/api/records/102"] = [status] * 3
    with pytest.raises(error, match=f"Zenodo {says}") as refused:
        await resolved(zenodo, "102")
    assert refused.value.hint


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"[]", HostUnavailable),
        (b"<html>", HostUnavailable),
        (b'{"id": "../x"}', HostUnavailable),
        (b'{"id": null}', HostUnavailable),
        (b"[" * 100_000, HostUnavailable),
        (b'"' + b"x" * (4 << 20) + b'"', RepoTooLarge),
    ],
)
async def test_each_bad_answer_is_one_sentence(
    records: RecordServer, zenodo: ZenodoProvider, answer: bytes, error: type[UserError]
) -> None:
    records.server.files["/api/records/102"] = answer
    with pytest.raises(error, match="Zenodo"):
        await resolved(zenodo, "102")


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1:1/", "https://example.org/x", "/api/records/102", "", "file:///x"]
)
async def test_redirects_to_elsewhere_or_without_end_are_not_followed(
    records: RecordServer, zenodo: ZenodoProvider, target: str
) -> None:
    records.server.moved["/api/records/102"] = target
    with pytest.raises(HostUnavailable, match="Zenodo did not answer as documented"):
        await resolved(zenodo, "102")
    assert len(records.server.asked) <= 6


@pytest.mark.parametrize("files", [None, 1, [1], [{"key": "a"}], [{"key": "a", "links": {"self": "x"}, "size": None}]])
async def test_a_bad_list_of_files_is_no_traceback(
    records: RecordServer, zenodo: ZenodoProvider, files: object
) -> None:
    repo = await resolved(zenodo, "102")
    records.say("/api/records/102", {"id": 102, "files": files})
    if files is None:
        assert (await list_files(repo)).files == ()
        return
    with pytest.raises(HostUnavailable, match="Zenodo did not answer as documented"):
        await list_files(repo)


@pytest.mark.processes
async def test_a_record_of_one_zip_is_checked_out(zenodo: ZenodoProvider, tmp_path: Path) -> None:
    repo = await resolved(zenodo, "10.5281/zenodo.100")
    into = tmp_path / "checkout"
    async for _ in check_out(repo, into, GitAccess(), time.monotonic() + 60):
        pass
    assert sorted(path.name for path in into.iterdir()) == ["notebook.ipynb", "requirements.txt"]
