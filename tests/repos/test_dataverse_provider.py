"""Test links to Dataverse against a server that answers as its API does (https://guides.dataverse.org/en/latest/api/)."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import pytest

from pangeo_binder.archives.base import list_files
from pangeo_binder.errors import BadLink, HostUnavailable, RepoNotFound
from pangeo_binder.model import Click
from pangeo_binder.repos.dataverse import DataverseProvider
from tests.contracts.archive import ArchiveContract
from tests.contracts.provider import SECRET, Provided
from tests.repos.recordserver import DATASET, RecordServer, file_server, records, resolved

__all__ = ["file_server", "records"]


@pytest.fixture
def dataverse(records: RecordServer) -> DataverseProvider:
    return DataverseProvider((records.url,), records.url)


class TestDataverseProvider(ArchiveContract):
    """Datasets of Dataverse."""

    @pytest.fixture
    def provided(self, records: RecordServer, dataverse: DataverseProvider) -> Provided:
        page = f"{records.url}/dataset.xhtml?persistentId="
        return Provided(
            provider=dataverse,
            typed=f"{page}{DATASET}",
            own=(
                *(
                    quote(f"{page}{DATASET}", safe=""),
                    f"{page}{DATASET}&version=2.1",
                    f"{page}{quote(DATASET, safe='')}",
                ),
                *(f"{records.url}/citation?persistentId={DATASET}", f"{records.url}/{DATASET}"),
            ),
            foreign=(),
            bad=(
                *("dataverse", f"{records.url}/dataverse/x", page, f"{page}x", f"{page}doi:10.1/../x"),
                *(f"https://example.org/dataset.xhtml?persistentId={DATASET}", f"{page}{DATASET}%00"),
            ),
            secret=(
                *(
                    f"http://me:{SECRET}@127.0.0.1/dataset.xhtml?persistentId={DATASET}",
                    f"{page}{DATASET}&key={SECRET}",
                ),
                f"{records.url}/privateurl.xhtml?token={SECRET}",
            ),
            unknown_ref="",
            unknown_repository=f"{page}doi:10.1234/none",
            revision=f"{DATASET}[.]v2[.]1",
        )


@pytest.mark.parametrize("spec", ["10.1234/FK2/ABC", "10.1234/FK2/ABC/F", f"citation?persistentId={DATASET}/F"])
async def test_all_ways_to_a_dataset_have_its_one_address(
    records: RecordServer, dataverse: DataverseProvider, spec: str
) -> None:
    repo = await resolved(dataverse, spec if spec.startswith("10.") else f"{records.url}/{spec}")
    assert (repo.ref.url, repo.revision) == (f"{records.url}/{DATASET}", f"{DATASET}.v2.1")
    link = dataverse.link(Click("dataverse", spec, "192.0.2.1", "/hub/"), repo)
    assert link.ref_url == f"{records.url}/dataset.xhtml?persistentId={DATASET}"
    assert await resolved(dataverse, link.persistent_request.removeprefix("v2/dataverse/")) == repo


async def test_files_are_those_that_were_uploaded(records: RecordServer, dataverse: DataverseProvider) -> None:
    listed = await list_files(await resolved(dataverse, "10.1234/FK2/ABC"))
    assert not listed.unpack
    assert [(each.path, each.size_bytes, each.checksum) for each in listed.files] == [
        ("data/raw/a.csv", 7, f"sha1:{'0' * 40}"),
        ("b.dta", None, ""),
        ("c", 1, f"md5:{'1' * 32}"),
    ]
    assert listed.files[0].url == f"{records.url}/api/access/datafile/5?format=original"


async def test_a_dataset_that_changed_since_is_not_launched_as_the_old_one(
    records: RecordServer, dataverse: DataverseProvider
) -> None:
    repo = await resolved(dataverse, "10.1234/FK2/ABC")
    newer = {"versionNumber": 3, "versionMinorNumber": 0, "files": []}
    records.say(f"/api/datasets/:persistentId?persistentId={DATASET}", {"data": {"latestVersion": newer}})
    with pytest.raises(HostUnavailable, match="newer version"):
        await list_files(repo)


async def test_the_public_installations_are_known_and_have_public_addresses(records: RecordServer) -> None:
    public = DataverseProvider()
    ref = public.parse("https://dataverse.harvard.edu/dataset.xhtml?persistentId=doi:10.7910/DVN/TJCLKP")
    assert ref.url == "https://dataverse.harvard.edu/doi:10.7910/DVN/TJCLKP"
    with pytest.raises(BadLink):
        public.parse(f"{records.url}/dataset.xhtml?persistentId={DATASET}")


async def test_an_installation_that_the_operator_did_not_name_has_to_be_public(
    records: RecordServer, dataverse: DataverseProvider
) -> None:
    repo = await resolved(dataverse, "10.1234/FK2/ABC")
    asked = len(records.server.asked)
    with pytest.raises(RepoNotFound, match="not at a public address"):
        await list_files(replace(repo, files_url=repo.files_url.partition("#")[0]))
    assert len(records.server.asked) == asked


@pytest.mark.parametrize("answer", [{}, {"data": None}, {"data": {"latestVersion": {"versionNumber": "x"}}}, []])
async def test_bad_answers_are_one_sentence(
    records: RecordServer, dataverse: DataverseProvider, answer: object
) -> None:
    records.say(f"/api/datasets/:persistentId?persistentId={DATASET}", answer)
    with pytest.raises(HostUnavailable, match="Dataverse did not answer as documented"):
        await resolved(dataverse, "10.1234/FK2/ABC")


async def test_an_unpublished_dataset_is_one_sentence(records: RecordServer, dataverse: DataverseProvider) -> None:
    records.server.statuses[f"/api/datasets/:persistentId?persistentId={DATASET}"] = [401]
    with pytest.raises(RepoNotFound, match="does not show this record to everyone"):
        await resolved(dataverse, "10.1234/FK2/ABC")
