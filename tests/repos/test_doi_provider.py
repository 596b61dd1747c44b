"""Test links by DOI: the record that a DOI leads to is launched as a link of its kind."""

from __future__ import annotations

import pytest

from pangeo_binder.errors import BadLink, HostUnavailable
from pangeo_binder.model import Click
from pangeo_binder.repos.doi import DoiProvider
from pangeo_binder.repos.registry import RepositoryHosts, make_providers, provider_for
from tests.contracts.archive import ArchiveContract
from tests.contracts.provider import SECRET, Provided
from tests.repos.recordserver import RecordServer, file_server, records, resolved

__all__ = ["file_server", "records"]


@pytest.fixture
def hosts(records: RecordServer) -> RepositoryHosts:
    return records.hosts()


@pytest.fixture
def doi(hosts: RepositoryHosts) -> DoiProvider:
    found = provider_for(make_providers(hosts), "doi")
    assert isinstance(found, DoiProvider)
    return found


class TestDoiProvider(ArchiveContract):
    """DOIs."""

    @pytest.fixture
    def provided(self, doi: DoiProvider) -> Provided:
        return Provided(
            provider=doi,
            typed="https://doi.org/10.1234/other",
            own=("10.1234/other", "doi:10.1234/other", "10.5281/zenodo.102", "https://doi.org/10.1234/article"),
            foreign=(),
            bad=(
                "10.1234",
                "other",
                "10.1234/../x",
                "https://example.org/10.1234/other",
                "10.1234/a%00",
                "10.1234/a b",
            ),
            secret=(f"https://me:{SECRET}@doi.org/10.1234/other",),
            unknown_ref="",
            unknown_repository="10.1234/none",
            revision="102|7[.]v2",
        )

    async def test_a_ref_resolves_to_the_same_full_revision(self, provided: Provided) -> None:
        for spec in provided.own:
            first = await provided.repo(spec)
            assert first == await provided.repo(spec)
            assert first.ref.provider in ("zenodo", "figshare")


@pytest.mark.parametrize(("spec", "kind"), [("10.1234/other", "zenodo"), ("10.1234/article", "figshare")])
async def test_a_doi_is_the_record_that_it_leads_to(
    hosts: RepositoryHosts, doi: DoiProvider, spec: str, kind: str
) -> None:
    repo = await resolved(doi, spec)
    direct = provider_for(make_providers(hosts), kind)
    assert repo == await resolved(direct, spec)
    link = doi.link(Click("doi", spec, "192.0.2.1", "/hub/"), repo)
    assert link.request == f"v2/doi/{spec}"
    kind_, _, rest = link.persistent_request.removeprefix("v2/").partition("/")
    assert (kind_, (await resolved(direct, rest)).revision) == (kind, repo.revision)


async def test_a_doi_that_leads_elsewhere_is_refused(doi: DoiProvider) -> None:
    with pytest.raises(BadLink, match="leads to a place that this binder does not know"):
        await resolved(doi, "10.1234/elsewhere")


@pytest.mark.parametrize("answer", [{}, {"values": 1}, {"values": [{"type": "URL"}]}, {"values": ["x"]}])
async def test_bad_answers_of_the_resolver_are_one_sentence(
    records: RecordServer, doi: DoiProvider, answer: object
) -> None:
    records.say("/api/handles/10.1234/other", answer)
    with pytest.raises(HostUnavailable, match="The DOI resolver did not answer as documented"):
        await resolved(doi, "10.1234/other")
