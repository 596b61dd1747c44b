"""Archives and APIs that stop answering: not every launch asks them, and a failure that ends soon is no failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import aiohttp
import pytest

from pangeo_binder import peers
from pangeo_binder.archives import api
from pangeo_binder.errors import HostBusy, HostUnavailable, RepoNotFound, UserError
from pangeo_binder.repos import host_api
from pangeo_binder.repos.base import Provider
from pangeo_binder.repos.github_api import GitHubApi, GitHubApiSettings
from pangeo_binder.repos.gitlab import GitLabApi
from pangeo_binder.repos.host_api import HostApi, read_commit
from pangeo_binder.repos.registry import RepositoryHosts, make_providers, provider_for
from pangeo_binder.repos.zenodo import ZenodoProvider
from tests.repos.fileserver import Answer, FileServer
from tests.repos.recordserver import DATASET, RESOURCE, RecordServer, file_server, records, resolved

__all__ = ["file_server", "records"]

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{"id":"102"}'
RECORD = "/api/records/102"


def github_api(address: str) -> GitHubApi[str]:
    """Return the API of GitHub at `address`."""
    return GitHubApi(GitHubApiSettings(address), lambda body: read_commit(body, "id"))


class Wedged:
    """An archive that accepts requests, and answers them once it is `awake`."""

    def __init__(self) -> None:
        self.url, self.asked, self.awake = "", 0, False

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        if self.awake:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
        else:
            await reader.read()
        writer.close()


@pytest.fixture
async def wedged() -> AsyncIterator[Wedged]:
    made = Wedged()
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()
    await server.wait_closed()


@pytest.fixture
def providers(wedged: Wedged) -> tuple[Provider, ...]:
    url = wedged.url
    hosts = RepositoryHosts(
        doi_resolver=url,
        zenodo=url,
        figshare=url,
        figshare_api=url,
        dataverses=(url,),
        hydroshare=url,
        ckan_sites=(url,),
        software_heritage=url,
    )
    return make_providers(hosts)


async def test_a_wedged_archive_is_not_asked_until_its_time_is_over(
    wedged: Wedged, providers: tuple[Provider, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(peers, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(peers, "_QUICK_SECONDS", 0)  # a request that ran into its timeout is not repeated
    monkeypatch.setattr(api, "_TIMEOUT", aiohttp.ClientTimeout(total=0.1))
    zenodo = provider_for(providers, "zenodo")

    for record in range(5):
        with pytest.raises(HostUnavailable, match="Zenodo does not answer this binder"):
            await resolved(zenodo, str(record))
    assert wedged.asked == 5
    for kind, spec in (
        ("zenodo", "102"),
        ("doi", "10.1234/other"),
        ("figshare", "10.6084/m9.figshare.7"),
        ("dataverse", f"{wedged.url}/{DATASET}"),
        ("hydroshare", RESOURCE),
        ("ckan", f"{wedged.url}/dataset/my-data"),
        ("swh", f"swh:1:dir:{'a' * 40}"),
    ):
        with pytest.raises(HostUnavailable, match="does not answer this binder") as refused:
            await resolved(provider_for(providers, kind), spec)
        assert refused.value.hint
    assert wedged.asked == 5, "an archive that is refused was asked"

    wedged.awake, clock[0] = True, 1031.0
    assert (await resolved(zenodo, "102")).revision == "102"
    assert wedged.asked == 6


@pytest.mark.parametrize(("made", "host"), [(github_api, "GitHub"), (GitLabApi, "GitLab")])
async def test_a_wedged_api_is_not_asked_until_its_time_is_over(
    wedged: Wedged, made: Callable[[str], HostApi[str]], host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, asking = [1000.0], made(wedged.url)
    monkeypatch.setattr(peers, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(host_api, "_TIMEOUT", aiohttp.ClientTimeout(total=0.1))
    for commit in range(5):
        with pytest.raises(HostUnavailable, match=f"{host} does not answer this binder"):
            await asking.find(f"commits/{commit}")
    for _ in range(2):
        with pytest.raises(HostUnavailable, match="does not answer this binder"):
            await asking.find("commits/102")
    assert wedged.asked == 5, "it was asked again"

    wedged.awake, clock[0] = True, 1031.0
    assert await asking.find("commits/102") == "102"


async def test_an_api_that_answers_with_errors_is_asked_for_each_link(file_server: FileServer) -> None:
    asking = GitLabApi(file_server.url)
    for commit in range(7):
        file_server.answers[f"/api/v4/{commit}"] = Answer(503)
        with pytest.raises(HostUnavailable):
            await asking.find(str(commit))
    assert len(file_server.asked) == 7


async def test_a_failure_that_ends_soon_is_no_failure(records: RecordServer) -> None:
    records.server.statuses[RECORD] = [503, 502]
    assert (await resolved(ZenodoProvider(records.url), "102")).revision == "102"
    assert records.server.asked == [f"GET {RECORD}"] * 3


@pytest.mark.parametrize(("status", "error"), [(403, RepoNotFound), (429, HostBusy)])
async def test_an_answer_is_not_asked_for_again(records: RecordServer, status: int, error: type[UserError]) -> None:
    records.server.statuses["/v2/articles/7/versions"] = [status]
    with pytest.raises(error):
        await resolved(provider_for(make_providers(records.hosts()), "figshare"), "10.6084/m9.figshare.7")
    assert len(records.server.asked) == 1


async def test_records_with_bad_answers_close_an_archive_to_no_other(records: RecordServer) -> None:
    zenodo = ZenodoProvider(records.url)
    for record in range(7):
        records.server.files[f"/api/records/{record}"] = b"<html>"
        with pytest.raises(HostUnavailable, match="did not answer as documented"):
            await resolved(zenodo, str(record))
    assert len(records.server.asked) == 7, "an answer was asked for again"
    assert (await resolved(zenodo, "102")).revision == "102"
