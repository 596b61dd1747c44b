"""Test links to HydroShare against a server that answers as its API does (https://www.hydroshare.org/hsapi/)."""

from __future__ import annotations

import pytest

from pangeo_binder.archives.base import list_files
from pangeo_binder.errors import HostUnavailable, RepoTooLarge
from pangeo_binder.repos.hydroshare import HydroshareProvider
from tests.contracts.archive import ArchiveContract
from tests.contracts.provider import SECRET, Provided
from tests.repos.recordserver import RESOURCE, RecordServer, file_server, records, resolved

__all__ = ["file_server", "records"]

FILES = f"/hsapi/resource/{RESOURCE}/files/"


@pytest.fixture
def hydroshare(records: RecordServer) -> HydroshareProvider:
    return HydroshareProvider(records.url, records.url)


class TestHydroshareProvider(ArchiveContract):
    """Resources of HydroShare."""

    @pytest.fixture
    def provided(self, records: RecordServer, hydroshare: HydroshareProvider) -> Provided:
        page = f"{records.url}/resource"
        return Provided(
            provider=hydroshare,
            typed=f"{page}/{RESOURCE}/",
            own=(RESOURCE, f"10.4211/hs.{RESOURCE}", f"{page}/{RESOURCE}", f"{page}/{RESOURCE}/data/contents/a.csv"),
            foreign=(),
            bad=(
                RESOURCE[1:],
                f"{RESOURCE}a",
                RESOURCE.upper(),
                f"{page}/x",
                f"https://example.org/resource/{RESOURCE}",
            ),
            secret=(f"https://me:{SECRET}@www.hydroshare.org/resource/{RESOURCE}",),
            unknown_ref="",
            unknown_repository="0" * 32,
            revision=f"{RESOURCE}[.]v1714979289",
        )


async def test_files_keep_their_folders_and_all_pages_are_read(
    records: RecordServer, hydroshare: HydroshareProvider
) -> None:
    repo = await resolved(hydroshare, RESOURCE)
    assert repo.ref.url == f"{records.url}/resource/{RESOURCE}"
    listed = await list_files(repo)
    assert [(each.path, each.size_bytes) for each in listed.files] == [("sub/a b.csv", 7), ("c.csv", 8)]
    assert not listed.unpack


@pytest.mark.parametrize("page", ["https://example.org/x", "/hsapi/resource/other/files/?page=2", 5, "http://[x"])
async def test_pages_elsewhere_are_not_followed(
    records: RecordServer, hydroshare: HydroshareProvider, page: object
) -> None:
    repo = await resolved(hydroshare, RESOURCE)
    records.say(FILES, {"results": [], "next": page})
    with pytest.raises(HostUnavailable, match="HydroShare did not answer as documented"):
        await list_files(repo)


async def test_pages_without_end_end(records: RecordServer, hydroshare: HydroshareProvider) -> None:
    repo = await resolved(hydroshare, RESOURCE)
    records.say(FILES, {"results": [], "next": f"{records.url}{FILES}"})
    with pytest.raises(RepoTooLarge, match="HydroShare lists more files"):
        await list_files(repo)


@pytest.mark.parametrize("answer", [{}, {"dates": []}, {"dates": [{"type": "modified", "start_date": "soon"}]}, 1])
async def test_bad_answers_are_one_sentence(
    records: RecordServer, hydroshare: HydroshareProvider, answer: object
) -> None:
    records.say(f"/hsapi/resource/{RESOURCE}/scimeta/elements", answer)
    with pytest.raises(HostUnavailable, match="HydroShare did not answer as documented"):
        await resolved(hydroshare, RESOURCE)
