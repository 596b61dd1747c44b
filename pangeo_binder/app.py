"""PangeoBinderHub: the binder process. Wires the parts together; no part knows this module.

The only place that imports binderhub. It inherits what has been the same from BinderHub 0.1.0 to today: the
application, its configuration names and its life cycle. All handlers are ours.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from binderhub.app import BinderHub
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from traitlets import Bool, Dict, Float, Instance, Int, List, Tuple, Unicode

from . import __version__
from .builders.base import Builder, BuildSettings
from .builders.venv.builder import VenvBuilder
from .errors import PangeoBinderError, UserError
from .events import Event
from .git import GitAccess
from .launch.admission import Admission
from .launch.builds import SharedBuilds
from .launch.hub import Hub
from .launch.pipeline import Click, Collaborators, Pipeline
from .launch.queue import Queue
from .model import RepoRef
from .policy.load import default_policy, load_policy
from .repos.git import FORM_PATTERN, LOCAL_FORM_PATTERN, GitProvider
from .repos.registry import provider_for
from .web.context import Check, Example, LaunchRequest, ProviderInfo, WebContext
from .web.limits import Limits
from .web.routes import routes

if TYPE_CHECKING:
    from .builders.kube.builder import KubeBuilder

_HEALTH_SECONDS = 5
_HOUSEKEEPING_SECONDS = 3600
_SHOWN_VERSIONS = ("binderhub", "jupyter-repo2docker", "tornado")
_VENV_FILES = ("requirements.txt", "pyproject.toml", "setup.py", "runtime.txt", "postBuild", "start")
"""The files of a repository that virtual environments are made from; docs/environments.md says how."""
_WITHOUT_CLUSTER = {
    "builder_required": False,
    "use_registry": False,
    "build_cleaner_class": None,
    "launch_quota_class": "binderhub.quota.LaunchQuota",
}
"""What keeps BinderHub from asking for a Kubernetes cluster; the last two are not in 0.1.0."""


class PangeoBinderHub(BinderHub):
    """A BinderHub whose launches come with a bounded Dask cluster and scoped object storage."""

    name = "pangeo-binder-hub"
    description = "The binder: pages, event streams, builds and admission."

    ip = Unicode("127.0.0.1", help="The address to listen at.", config=True)
    policy_file = Unicode("", help="The policy file; empty for the local profile's own.", config=True)
    cache_dir = Unicode("cache", help="Where built environments are kept.", config=True)
    cache_bytes = Int(50 * 2**30, help="How much disk built environments may use, in bytes.", config=True)
    cache_days = Float(30.0, help="Environments unused for this many days are removed.", config=True)
    ticket_keys = List(Unicode(), help="Keys that sign tickets, newest first.", config=True)
    hub_api_url = Unicode("", help="The hub's REST API, as this process reaches it.", config=True)
    public_hub_url = Unicode("/", help="The public prefix of the hub's proxy; ends in a slash.", config=True)
    queue_seconds = Float(600.0, help="How long a launch may wait for a seat; 0 refuses at once.", config=True)
    allow_local_repositories = Bool(False, help="Whether paths of this machine are repositories.", config=True)
    build_seconds = Int(1800, help="How long one build may take, in seconds.", config=True)
    hosts = List(Unicode(), help="Names under which it may be asked, without ports; empty for any.", config=True)
    ask_first = Bool(False, help="Whether people whom another page sent are asked before a launch.", config=True)
    notice = Unicode("", help="A sentence shown on top of every page.", config=True)
    about = List(Unicode(), help="Sentences about what is limited here, for the page about.", config=True)
    examples = Tuple(help="The landing page's examples; the first is built when the binder starts.", config=True)
    health_urls = Dict(help="Addresses that have to answer for the binder to be healthy, by service.", config=True)
    kube_builds = Instance(
        "pangeo_binder.builders.kube.job.KubeBuildSettings",
        help="How environments are built on a cluster; without, they are virtual environments of this machine.",
        allow_none=True,
        config=True,
    )
    limits = Instance(Limits, help="Rate, build tokens, banned networks.", allow_none=True, config=True)

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Configure as BinderHub does, with nothing of it that needs a cluster; then put our handlers in front."""
        for trait, value in _WITHOUT_CLUSTER.items():
            if self.has_trait(trait):
                setattr(self, trait, value)
        super().initialize(*args, **kwargs)
        # requests are logged as our handlers sum them up, which is without secrets
        self.tornado_app.settings.pop("log_function", None)
        self._wire()
        self.tornado_app.add_handlers(r".*$", routes(self._context()))

    def _wire(self) -> None:
        self._hub = Hub(self.hub_api_url, self.hub_api_token, self.ticket_keys)
        policy = load_policy(Path(self.policy_file)) if self.policy_file else default_policy()
        self._builds = SharedBuilds(self._make_builder())
        self._providers = (GitProvider(allow_local=self.allow_local_repositories),)
        self._admission = Admission(policy, self._hub, Queue(self.queue_seconds))
        self._pipeline = Pipeline(
            Collaborators(
                providers=self._providers,
                admission=self._admission,
                builds=self._builds,
                hub=self._hub,
                ticket_keys=self.ticket_keys,
            )
        )

    def _make_builder(self) -> Builder:
        self._venvs: VenvBuilder | None = None
        self._images: KubeBuilder | None = None
        if self.kube_builds is not None:
            from .builders.kube.builder import KubeBuilder  # needs a library that is only there on a cluster

            self._images = KubeBuilder(self.kube_builds)
            return self._images
        access = GitAccess(allow_local=self.allow_local_repositories)
        settings = BuildSettings(cache_dir=Path(self.cache_dir), timeout_seconds=self.build_seconds, git=access)
        self._venvs = VenvBuilder(settings)
        self._venvs.prune_unfinished()
        return self._venvs

    def _context(self) -> WebContext:
        return WebContext(
            launch=self._launch,
            parse=self._parse,
            health=self._health,
            limits=self.limits or Limits(build_token_key=self.ticket_keys[0], hosts=tuple(self.hosts)),
            providers={"git": _git_info(self.allow_local_repositories)},
            examples=tuple(self.examples),
            versions={"pangeo-binder": __version__, **{name: _version(name) for name in _SHOWN_VERSIONS}},
            base_url=self.base_url,
            hub_url=self.public_hub_url,
            ask_first=self.ask_first,
            notice=self.notice,
            about=tuple(self.about),
            files=_VENV_FILES if self.kube_builds is None else (),
        )

    def _launch(self, request: LaunchRequest) -> AsyncGenerator[Event, None]:
        hub_url = request.site_url + self.public_hub_url
        return self._pipeline.run(Click(request.provider, request.spec, request.network, hub_url))

    def _parse(self, provider: str, spec: str) -> RepoRef:
        return provider_for(self._providers, provider).parse(spec)

    async def _health(self) -> list[Check]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_HEALTH_SECONDS)) as session:
            return list(await asyncio.gather(*(_check(session, *pair) for pair in self.health_urls.items())))

    def start(self, run_loop: bool = True) -> None:
        """Listen, build the first example, and run until stopped."""
        self.http_server = HTTPServer(self.tornado_app, xheaders=True)
        self.http_server.listen(self.port, address=self.ip)
        self.log.info("The binder listens at http://%s:%d%s", self.ip, self.port, self.base_url)
        loop = IOLoop.current()
        loop.add_callback(self._admission.start)
        if self._venvs is not None:
            loop.add_callback(self._keep_house, self._venvs)
        if self.examples:
            loop.add_callback(self._build_first, self.examples[0])
        if run_loop:
            signal.signal(signal.SIGTERM, lambda number, frame: loop.add_callback_from_signal(self._leave, loop))
            loop.start()

    async def _leave(self, loop: IOLoop) -> None:
        """End what this process has begun: builds stop with their processes, launches being followed are told."""
        self.http_server.stop()
        await self._builds.stop()
        await self._admission.close()
        await self._hub.close()
        if self._images is not None:
            await self._images.close()
        loop.stop()

    async def _keep_house(self, builder: VenvBuilder) -> None:
        """Remove environments that nobody used for long, or that no longer fit, but none that a server runs in."""
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            try:
                used = {server.launch.environment.id for server in await self._hub.servers()}
                max_age = self.cache_days * 24 * 3600
                gone = await asyncio.to_thread(builder.prune, used, self.cache_bytes, max_age)
                self.log.info("Pruned %d environments", len(gone))
            except PangeoBinderError as error:
                self.log.warning("Environments were not pruned: %s", error)

    async def _build_first(self, example: Example) -> None:
        """Build an example in the background, so that its first click finds it built."""
        try:
            repo = await provider_for(self._providers, example.ref.provider).resolve(example.ref)
            async with aclosing(self._builds.follow(repo)) as events:
                async for _ in events:
                    pass
        except PangeoBinderError as error:
            reason = error.message if isinstance(error, UserError) else type(error).__name__
            self.log.warning("The example %s could not be built in advance: %s", example.title, reason)


async def _check(session: aiohttp.ClientSession, service: str, url: str) -> Check:
    try:
        async with session.get(url) as response:
            return Check(service, response.status == 200, f"answers {response.status}")
    except (aiohttp.ClientError, TimeoutError):
        return Check(service, False, "does not answer")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _git_info(allow_local: bool) -> ProviderInfo:
    return ProviderInfo(
        id="git",
        display_name="Git repository",
        label="Git repository URL",
        placeholder="https://github.com/org/repository",
        pattern=LOCAL_FORM_PATTERN if allow_local else FORM_PATTERN,
    )


main = PangeoBinderHub.launch_instance

if __name__ == "__main__":
    main()
