"""PangeoBinderHub: the binder process. Wires the parts together; no part imports this module.

The only module that imports binderhub. It inherits what BinderHub has kept since 0.1.0: the application, its
configuration names and its life cycle. All handlers are ours.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import binderhub.builder
import binderhub.repoproviders
from binderhub.app import BinderHub
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase
from tornado.ioloop import IOLoop
from traitlets import Any as AnyTrait
from traitlets import Bool, Bytes, Dict, Enum, Float, Instance, Int, List, Tuple, Unicode, Union, default, observe
from traitlets.utils.bunch import Bunch

from .addresses import make_rules
from .builders.base import Builder, BuildSettings
from .builders.venv.builder import VenvBuilder
from .git import GitAccess
from .launch.admission import Admission
from .launch.builds import SharedBuilds
from .launch.draining import Draining
from .launch.hub import Hub
from .launch.pipeline import Collaborators, Pipeline
from .launch.preview import Previews
from .launch.queue import Queue
from .launch.turns import BuildShares
from .logs import install, is_json
from .policy.load import default_policy, load_policy
from .repos.base import Provider
from .repos.custom import with_custom
from .repos.figshare import PUBLIC_FIGSHARE, PUBLIC_FIGSHARE_API
from .repos.github_api import GitHubApiSettings
from .repos.hydroshare import PUBLIC_HYDROSHARE
from .repos.private import PrivateRepositories, share_private
from .repos.records import PUBLIC_RESOLVER
from .repos.registry import RepositoryHosts, make_providers
from .repos.swh import PUBLIC_SWH
from .repos.zenodo import PUBLIC_ZENODO
from .web.checks import builder_probe, policy_probe, quota_probe, seats_probe, url_probes
from .web.context import People, WebContext
from .web.health import HealthChecks
from .web.launch_log import LaunchLog
from .web.limits import Limits
from .web.oauth import OAuthSettings
from .web.resume import ResumeLimits
from .web.routes import routes
from .web.server import make_server
from .web.versions import installed_versions

_RENAMED = {"line_seconds": "queue_seconds", "door": "limits"}
"""Configuration names of version 0.1, which are still read, with their new names."""
_WITHOUT_CLUSTER = {
    "builder_required": False,
    "use_registry": False,
    "build_cleaner_class": None,
    "launch_quota_class": "binderhub.quota.LaunchQuota",
}
"""Settings without which BinderHub would need a Kubernetes cluster; 0.1.0 does not have the last two."""


class PangeoBinderHub(BinderHub):
    """A BinderHub whose launches have a limited Dask cluster and scoped object storage."""

    name = "pangeo-binder-hub"
    description = "The binder: pages, event streams, builds and admission."

    ip = Unicode("127.0.0.1", help="The IP address to listen on.", config=True)
    policy_file = Unicode("", help="The policy file; empty for the local profile's default policy.", config=True)
    cache_dir = Unicode("cache", help="The directory for built environments.", config=True)
    cache_bytes = Int(50 * 2**30, help="How much disk built environments may use, in bytes.", config=True)
    cache_days = Float(30.0, help="Remove environments unused for this many days.", config=True)
    ticket_keys = List(Unicode(), help="Keys that sign tickets, newest first.", config=True)
    hub_api_url = Unicode("", help="The hub's REST API, as this process reaches it.", config=True)
    public_hub_url = Unicode("/", help="The public prefix of the hub's proxy; ends in a slash.", config=True)
    resume_seconds = Float(30.0, help="How long a launch waits for a client that lost its connection.", config=True)
    queue_seconds = Float(600.0, help="How long a launch may wait for a seat; 0 refuses at once.", config=True)
    allow_local_repositories = Bool(False, help="Whether links may name folders of this machine.", config=True)
    github_address = Unicode("https://github.com", help="Where `gh` links lead; empty for no such links.", config=True)
    gitlab_address = Unicode("https://gitlab.com", help="Where `gl` links lead; empty for no such links.", config=True)
    gist_address = Unicode("https://gist.github.com", help="Where `gist` links lead; empty for none.", config=True)
    secret_gists = Bool(False, help="Whether secret gists are launched.", config=True)
    github_api_address = Unicode("https://api.github.com", help="GitHub's API, which gists need.", config=True)
    github_token_file = Unicode("", help="A file with a token for GitHub's API, for its rate limit.", config=True)
    private_repositories = Dict(
        help="Private repositories that git reads with a token: a pattern such as `gh/org/*`, and the token's file."
        " Everyone who may launch such a repository can read it. Empty: only public ones.",
        config=True,
    )
    internal_hosts = List(Unicode(), help="Git servers in private networks that links may name.", config=True)
    internal_networks = List(Unicode(), help="Private networks whose git servers links may name.", config=True)
    software_heritage_address = Unicode(PUBLIC_SWH, help="Where `swh` links lead; empty for none.", config=True)
    doi_resolver_address = Unicode(PUBLIC_RESOLVER, help="The resolver of DOIs; empty for no `doi` links.", config=True)
    zenodo_address = Unicode(PUBLIC_ZENODO, help="Where `zenodo` links lead; empty for none.", config=True)
    figshare_address = Unicode(PUBLIC_FIGSHARE, help="Where `figshare` links lead; empty for none.", config=True)
    figshare_api_address = Unicode(PUBLIC_FIGSHARE_API, help="Figshare's API.", config=True)
    dataverse_addresses = List(
        Unicode(), ["*"], help="Installations of Dataverse; `*` stands for all public ones.", config=True
    )
    hydroshare_address = Unicode(PUBLIC_HYDROSHARE, help="Where `hydroshare` links lead; empty for none.", config=True)
    ckan = Bool(True, help="Whether links may name datasets of any CKAN site.", config=True)
    ckan_addresses = List(Unicode(), help="CKAN sites that may have private addresses.", config=True)
    build_seconds = Int(1800, help="How long one build may take, in seconds.", config=True)
    drain_seconds = Float(60.0, help="How long a stopping binder lets servers start that users wait for.", config=True)
    build_shares = Instance(
        BuildShares,
        help="How many builds run at once, in total, per network and per repository, and how many wait.",
        allow_none=True,
        config=True,
    )
    hosts = List(Unicode(), help="Host names the binder answers to, without ports; empty for any.", config=True)
    ask_first = Bool(False, help="Whether to ask before a launch from another site's page.", config=True)
    login_token = Unicode("", help="The token without which no page answers; empty if none is needed.", config=True)
    auth = Enum(
        ("none", "offered", "required"),
        "none",
        help="Whether people can sign in with JupyterHub, or have to. `auth_enabled` of BinderHub means `required`.",
        config=True,
    )
    oauth_client_id = Unicode(help="The id of the binder's service as a client of the hub.", config=True)
    oauth_redirect_uri = Unicode(help="The address to which the hub returns after a login.", config=True)
    https_only = Bool(False, help="Whether browsers reach the binder by https alone, for its cookies.", config=True)
    notice = Unicode("", help="A sentence shown at the top of every page.", config=True)
    about = List(Unicode(), help="Sentences on the page `about`, such as this binder's limits.", config=True)
    examples = Tuple(help="Examples on the landing page; the binder builds the first at its start.", config=True)
    health_urls = Dict(help="Addresses that must answer for the binder to be healthy, by service.", config=True)
    enable_api_only_mode = Bool(False, help="Whether there are only endpoints for programs, no pages.", config=True)
    kube_builds = Instance(
        "pangeo_binder.builders.kube.job.KubeBuildSettings",
        help="Settings for builds on a cluster; None builds virtual environments on this machine.",
        allow_none=True,
        config=True,
    )
    limits = Instance(Limits, help="Rate, build tokens, banned networks.", allow_none=True, config=True)
    build_token_secret = Union([Bytes(), Unicode()], help="The key of build tokens; empty for `limits`'.", config=True)
    build_token_expires_seconds = Int(
        0, help="How long a build token is valid, in seconds; 0 for `limits`'.", config=True
    )
    build_token_check_origin = Bool(True, help="Whether build tokens are bound to their page's origin.", config=True)
    cors_allow_origin = Unicode("", help="The other origins whose pages may launch; empty for `limits`'.", config=True)
    line_seconds = AnyTrait(help="The old name of queue_seconds.", config=True)
    door = AnyTrait(help="The old name of limits.", config=True)

    @default("oauth_client_id")
    def _oauth_client_id(self) -> str:
        return os.environ.get("JUPYTERHUB_CLIENT_ID", "service-binder")

    @default("oauth_redirect_uri")
    def _oauth_redirect_uri(self) -> str:
        # for services that it starts itself, JupyterHub sets a name without any path
        given = os.environ.get("JUPYTERHUB_OAUTH_CALLBACK_URL", "")
        return given if "/" in given else f"{self.base_url}oauth_callback"

    @observe(*_RENAMED)
    def _read_old_name(self, change: Bunch) -> None:
        self.log.warning("%s is now called %s; rename it in the configuration", change.name, _RENAMED[change.name])
        setattr(self, _RENAMED[change.name], change.new)

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Initialize BinderHub without the parts that need a cluster, then add our handlers in front of its own."""
        if is_json():  # else BinderHub's own handler writes text
            install("binder")
        for trait, value in _WITHOUT_CLUSTER.items():
            if self.has_trait(trait):
                setattr(self, trait, value)
        super().initialize(*args, **kwargs)
        # our handlers log requests themselves, without secrets
        self.tornado_app.settings.pop("log_function", None)
        self._wire()
        self.tornado_app.add_handlers(r".*$", routes(self._context()))

    def _wire(self) -> None:
        self._hub = Hub(self.hub_api_url, self.hub_api_token, self.ticket_keys)
        self._policy = load_policy(Path(self.policy_file)) if self.policy_file else default_policy()
        self._builder = self._make_builder()
        self._builder.recover()  # before any launch can see what a killed build left
        self._builds = SharedBuilds(self._builder, self.build_shares)
        self._providers = self._make_providers()
        self._admission = Admission(self._policy, self._hub, Queue(self.queue_seconds))
        self._pipeline = Pipeline(
            Collaborators(
                providers=self._providers,
                admission=self._admission,
                builds=self._builds,
                hub=self._hub,
                ticket_keys=self.ticket_keys,
                logins=self._has_logins,
            )
        )
        self._draining = Draining(self._pipeline.run)
        self._previews = Previews(self._builds, self._git_access)

    def _make_providers(self) -> tuple[Provider, ...]:
        providers = make_providers(self._repository_hosts(), allow_local=self.allow_local_repositories)
        if self.repo_providers == self.traits()["repo_providers"].default():
            return providers
        return with_custom(providers, self.repo_providers, self.config, self._git_access)

    def _repository_hosts(self) -> RepositoryHosts:
        token_file = Path(self.github_token_file) if self.github_token_file else None
        return RepositoryHosts(
            github=self.github_address,
            gist=self.gist_address,
            gitlab=self.gitlab_address,
            github_api=GitHubApiSettings(self.github_api_address, token_file),
            allow_secret_gists=self.secret_gists,
            addresses=make_rules(self.internal_hosts, self.internal_networks),
            private=self._private_repositories(),
            software_heritage=self.software_heritage_address,
            doi_resolver=self.doi_resolver_address,
            zenodo=self.zenodo_address,
            figshare=self.figshare_address,
            figshare_api=self.figshare_api_address,
            dataverses=tuple(self.dataverse_addresses),
            hydroshare=self.hydroshare_address,
            ckan=self.ckan,
            ckan_sites=tuple(self.ckan_addresses),
        )

    def _private_repositories(self) -> PrivateRepositories:
        if self.private_repositories and self.kube_builds is not None and self.kube_builds.token_secret is None:
            raise ValueError("private_repositories needs a Secret for build pods, which the chart's values name.")
        return share_private(self.private_repositories)

    @property
    def _git_access(self) -> GitAccess:
        hosts = self._repository_hosts()
        return GitAccess(
            self.allow_local_repositories, addresses=hosts.own_addresses, token_files=hosts.private.token_file
        )

    def _make_builder(self) -> Builder:
        if self.kube_builds is not None:
            from .builders.kube.builder import KubeBuilder  # needs a library that only cluster installations have

            git = self._repository_hosts().own_addresses
            return KubeBuilder(replace(self.kube_builds, git=git))
        return VenvBuilder(
            BuildSettings(
                cache_dir=Path(self.cache_dir),
                cache_bytes=self.cache_bytes,
                unused_seconds=self.cache_days * 24 * 3600,
                timeout_seconds=self.build_seconds,
                git=self._git_access,
            )
        )

    def _context(self) -> WebContext:
        return WebContext(
            launch=self._draining.run,
            providers=self._providers,
            preview=self._previews.notebook,
            health=self._health(),
            is_stopping=self._is_stopping,
            limits=self._make_limits(),
            examples=tuple(self.examples),
            versions=installed_versions(),
            builder_info=self._builder.info,
            base_url=self.base_url,
            hub_url=self.public_hub_url,
            api_only=self.enable_api_only_mode,
            ask_first=self.ask_first,
            login_token=self.login_token,
            notice=self.notice,
            about=tuple(self.about),
            files=self._builder.files,
            people=self._people() if self._has_logins else None,
            resume=ResumeLimits(grace_seconds=self.resume_seconds),
            # BinderHub makes these of `EventLog.handlers_maker`, and the attribute only with it
            launch_log=LaunchLog(getattr(self.event_log, "handlers", ())),
        )

    @property
    def _has_logins(self) -> bool:
        return self.auth != "none" or bool(self.auth_enabled)

    def _people(self) -> People:
        oauth = OAuthSettings(
            api_url=self.hub_api_url.rstrip("/"),
            hub_url=f"{self.public_hub_url}hub/",
            service=os.environ.get("JUPYTERHUB_SERVICE_NAME", "binder"),
            client_id=self.oauth_client_id,
            redirect_uri=self.oauth_redirect_uri,
            secret=self.hub_api_token,
        )
        return People(
            oauth=oauth,
            keys=tuple(self.ticket_keys),
            sessions=self._hub.servers_of,
            stop=self._hub.stop,
            seats=self._admission.seats_of,
            is_required=self.auth != "offered",
            https=self.https_only,
        )

    def _health(self) -> HealthChecks:
        probes = {
            **url_probes(self.health_urls),
            self._builder.health_name: builder_probe(self._builder),
            "Seats": seats_probe(self._admission),
            "Pod quota": quota_probe(self._admission, lambda: self._builds.running),
        }
        if self.policy_file:
            probes["Policy"] = policy_probe(Path(self.policy_file), self._policy)
        return HealthChecks(probes, self._is_stopping)

    def _make_limits(self) -> Limits:
        """Return `limits`, with what is set by BinderHub's own names."""
        limits = self.limits or Limits(build_token_key=self.ticket_keys[0], hosts=tuple(self.hosts))
        return replace(
            limits,
            build_token_key=self.build_token_secret or limits.build_token_key,
            build_token_seconds=self.build_token_expires_seconds or limits.build_token_seconds,
            build_token_check_origin=self.build_token_check_origin and limits.build_token_check_origin,
            cors_allow_origin=self.cors_allow_origin or limits.cors_allow_origin,
        )

    def start(self, run_loop: bool = True) -> None:
        """Listen, build the first example, and run until stopped (`run_loop`)."""
        self.http_server = make_server(self.tornado_app)
        self.http_server.listen(self.port, address=self.ip)
        self.log.info("The binder listens on http://%s:%d%s", self.ip, self.port, self.base_url)
        loop = IOLoop.current()
        loop.add_callback(self._admission.start)
        loop.add_callback(self._builder.maintain, self._hub.environments_in_use)
        if self.examples:
            loop.add_callback(self._pipeline.prebuild, self.examples[0].ref)
        if run_loop:
            signal.signal(signal.SIGTERM, lambda number, frame: loop.add_callback_from_signal(self._shut_down, loop))
            with suppress(KeyboardInterrupt):  # the local profile's hub stops its services so
                loop.start()

    def _is_stopping(self) -> bool:
        return self._draining.begun

    async def _shut_down(self, loop: IOLoop) -> None:
        """Stop the process: finish launches, end builds with their processes, then leave the loop.

        Pages are answered meanwhile; new launches get 503 with a sentence. A second signal stops it at once.
        """
        if self._is_stopping():
            loop.stop()
            return
        self.log.info("The binder is stopping; servers that are starting have %d s", self.drain_seconds)
        await self._draining.drain(self.drain_seconds)
        self.http_server.stop()
        await self._previews.close()
        await self._builds.stop()
        await self._pipeline.close()
        await self._admission.close()
        await self._hub.close()
        await self.http_server.close_all_connections()
        loop.stop()


def _drop_unused_metrics() -> None:
    """Remove the metrics of BinderHub's handlers, which never run; `binderhub_metrics` has series of the same names."""
    for module in (binderhub.builder, binderhub.repoproviders):
        for found in vars(module).values():
            if isinstance(found, MetricWrapperBase):
                REGISTRY.unregister(found)


_drop_unused_metrics()

main = PangeoBinderHub.launch_instance

if __name__ == "__main__":
    main()
