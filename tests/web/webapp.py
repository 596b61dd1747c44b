"""The binder's web application on a free port, with a small launch instead of the pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from yarl import URL

from pangeo_binder.errors import BadLink, BuildFailed
from pangeo_binder.events import Event, Phase, failed
from pangeo_binder.model import (
    CatalogueEntry,
    Click,
    DaskGrant,
    FetchKind,
    Grant,
    Repo,
    RepoRef,
    ServerGrant,
    StorageGrant,
    VirtualEnvironment,
)
from pangeo_binder.repos.base import Provenance, Provider, ProviderForm
from pangeo_binder.web.context import Check, Example, StreamTimes, WebContext
from pangeo_binder.web.limits import Limits
from pangeo_binder.web.resume import ResumeLimits
from pangeo_binder.web.routes import routes
from pangeo_binder.web.server import MAX_CONNECTIONS, make_server

GIB = 1024**3
GRANT = Grant(
    tier="pangeo",
    rule="gallery",
    reason="Rule 2: repositories of the gallery get the tier pangeo.",
    server=ServerGrant(cpu=2, memory_bytes=8 * GIB, idle_seconds=900, max_age_seconds=8 * 3600),
    dask=DaskGrant(1, 20, 40, 160 * GIB, 2, 8 * GIB, 600),
    storage=StorageGrant(50 * GIB, 7 * 86400, 200 * GIB, (CatalogueEntry("cmip6", "s3://cmip6-pds"),)),
)
ENVIRONMENT = VirtualEnvironment("abc", "/abc/venv", "/abc/checkout")
GIT_FORM = ProviderForm("Git repository URL", "https://example.org/org/repo.git")


def exactly(url: str) -> URL:
    """Return `url` unchanged: otherwise aiohttp would decode characters that need no encoding."""
    return URL(url, encoded=True)


class AnySpec(Provider):
    """Provider that accepts any spec except `refused` and resolves no ref."""

    name = "git"
    display_name = "Git repository"
    fetch = FetchKind.GIT

    def __init__(self, form: ProviderForm = GIT_FORM) -> None:
        self.form = form

    def parse(self, spec: str) -> RepoRef:
        url, _, ref = spec.partition("/")
        if url == "refused":
            raise BadLink(
                "The link does not name a repository.",
                "Links look like /v2/git/https%3A%2F%2Fexample.org%2Frepo.git/HEAD.",
            )
        return RepoRef(self.name, unquote(url), unquote(ref))

    async def find_revision(self, ref: RepoRef) -> str:
        raise AssertionError("pages must not resolve refs")

    def known_provenance(self, repo: Repo) -> Provenance | None:
        raise AssertionError("pages must not resolve refs")

    async def find_provenance(self, repo: Repo) -> Provenance:
        raise AssertionError("pages must not resolve refs")


@dataclass
class SmallLaunch:
    """Launch that yields `events`, and records its clicks and its end."""

    events: Sequence[Event]
    stays_seconds: float = 0
    """How long it waits after its last event."""
    clicks: list[Click] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, click: Click) -> AsyncGenerator[Event, None]:
        self.clicks.append(click)
        try:
            for event in self.events:
                yield event
            await asyncio.sleep(self.stays_seconds)
        finally:
            self.closed.set()


def good_events(server_url: str) -> list[Event]:
    return [
        Event(Phase.WAITING, "Found commit 1234567.\n"),
        Event(Phase.WAITING, "Admitted.\n", grant=GRANT),
        *(Event(Phase.BUILDING, f"Building line {number}\n") for number in range(1, 31)),
        Event(Phase.BUILT, "The environment is ready.\n", environment=ENVIRONMENT),
        Event(Phase.LAUNCHING, "Starting the server.\n"),
        Event(Phase.READY, "The server is ready.\n", url=server_url, token="s3cret"),
    ]


def bad_events() -> list[Event]:
    error = BuildFailed("The environment could not be made: numpy==99 does not exist.", "Change requirements.txt.")
    return [*good_events("")[:-3], failed(error)]


@dataclass
class WebApp:
    """Starter of the binder's web application."""

    servers: list[HTTPServer] = field(default_factory=list)
    most_connections: int = MAX_CONNECTIONS

    def start(self, launch: Callable[..., Any], more: Sequence[Any] = (), **changes: Any) -> str:
        """Start a server and return its URL without a slash at the end. `more` are handlers that match first."""
        application = Application([])
        application.add_handlers(r".*$", [*more, *routes(replace(context_of(launch), **changes))])
        sockets = bind_sockets(0, "127.0.0.1")
        server = make_server(application, self.most_connections)
        server.add_sockets(sockets)
        self.servers.append(server)
        return f"http://127.0.0.1:{sockets[0].getsockname()[1]}"


async def all_healthy() -> list[Check]:
    return [Check("hub", True), Check("gateway", True)]


def context_of(launch: Callable[..., Any]) -> WebContext:
    return WebContext(
        launch=launch,
        health=all_healthy,
        limits=Limits(build_token_key="a key of the tests"),
        providers=(AnySpec(),),
        examples=(
            Example("Sea surface temperature", "A climatology.", RepoRef("git", "https://example.org/sst", "main")),
        ),
        versions={"pangeo-binder": "1.0", "binderhub": "0.1.0"},
        stream=StreamTimes(keepalive_seconds=15, linger_seconds=0.2),
        resume=ResumeLimits(grace_seconds=0.2),
    )
