"""The parts of BinderHub that PangeoBinderHub inherits: these tests fail if BinderHub changes them.

Run with the release on the package index and with main; CONTRIBUTING.md says how.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import io
import json
import logging
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from binderhub.app import BinderHub
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.web import Application
from traitlets import Bool, Dict, Int, Unicode
from traitlets.config import Config

from pangeo_binder import __version__
from pangeo_binder.app import PangeoBinderHub
from pangeo_binder.deploy.local.values import free_port
from pangeo_binder.repos.registry import provider_for
from pangeo_binder.web.handler import BaseHandler
from pangeo_binder.web.launch_log import Launched
from pangeo_binder.web.limits import Limits

INHERITED = {
    "config_file": Unicode,
    "base_url": Unicode,
    "port": Int,
    "hub_url": Unicode,
    "hub_api_token": Unicode,
    "tornado_settings": Dict,
    "builder_required": Bool,
    "use_registry": Bool,
    "repo_providers": Dict,
}
"""The configuration names we rely on, with their trait types."""
ADDRESSES = (
    "/", "/v2/git/x/main", "/repo/a/b", "/build/git/x/main", "/metrics", "/health", "/versions", "/api/repoproviders",
    "/badge.svg", "/badge_logo.svg", "/assets/images/badge.svg", "/static/logo.svg", "/about", "/logo_social.png",
    "/favicon_fail.ico", "/whatever",
)  # fmt: skip
"""Paths of our handlers and of BinderHub's."""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A binder's configuration, as a deployment writes it."""
    config = Config()
    binder = config.PangeoBinderHub
    binder.port = free_port()
    binder.hub_url = "http://127.0.0.1:1/"
    binder.hub_api_url = "http://127.0.0.1:1/hub/api"
    binder.hub_api_token = "a token"
    binder.ticket_keys = ["a" * 64]
    binder.cache_dir = str(tmp_path / "cache")
    return config


@pytest.fixture
async def started(config: Config) -> Any:
    """A function that creates and starts a binder, which stops after the test."""
    running: list[PangeoBinderHub] = []

    def start() -> PangeoBinderHub:
        app = PangeoBinderHub(config=config)
        initialize(app)
        app.start(run_loop=False)
        running.append(app)
        return app

    yield start
    for app in running:
        app.stop()
        await app._admission.close()
        await app._hub.close()


def initialize(app: PangeoBinderHub) -> None:
    with warnings.catch_warnings():
        # BinderHub's own imports and configuration may be deprecated; our code must not warn
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"binderhub")
        app.initialize([])


async def get(app: PangeoBinderHub, path: str) -> HTTPResponse:
    url = f"http://127.0.0.1:{app.port}{path}"
    return await AsyncHTTPClient(force_instance=True).fetch(url, raise_error=False, follow_redirects=False)


@pytest.mark.parametrize(("name", "kind"), INHERITED.items())
def test_binderhub_has_the_configuration_names(name: str, kind: type) -> None:
    trait = BinderHub.class_traits(config=True).get(name)
    assert isinstance(trait, kind), f"BinderHub no longer has the configuration {name}"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("initialize", ["self", "args", "kwargs"]), ("start", ["self", "run_loop"]), ("stop", ["self"])],
)
def test_binderhub_has_the_life_cycle(name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(BinderHub, name)).parameters) == parameters


def test_binderhub_has_the_command_line() -> None:
    assert {"f": "BinderHub.config_file", "config": "BinderHub.config_file"}.items() <= BinderHub.aliases.items()
    assert callable(BinderHub.launch_instance)


def test_a_binderhub_configuration_file_also_applies(tmp_path: Path, config: Config) -> None:
    file = tmp_path / "binderhub_config.py"
    file.write_text("c.BinderHub.base_url = 'sub'\nc.PangeoBinderHub.queue_seconds = 5\n")
    config.PangeoBinderHub.config_file = str(file)
    app = PangeoBinderHub(config=config)
    initialize(app)
    assert (app.base_url, app.queue_seconds) == ("/sub/", 5)


def test_names_of_version_0_1_are_still_read(config: Config) -> None:
    config.PangeoBinderHub.line_seconds = 7.0
    config.PangeoBinderHub.door = limits = Limits(build_token_key="a key of the tests")
    app = PangeoBinderHub(config=config)
    assert (app.queue_seconds, app.limits) == (7.0, limits)


@pytest.mark.parametrize(
    ("settings", "required"),
    [({"auth_enabled": True}, True), ({"auth": "offered"}, False), ({"auth_enabled": True, "auth": "offered"}, False)],
)
def test_binderhubs_own_configuration_of_logins_is_understood(
    config: Config, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], required: bool
) -> None:
    """Its chart sets the variables; `use_named_servers` changes nothing, because people always have several servers."""
    monkeypatch.setenv("JUPYTERHUB_CLIENT_ID", "service-binderhub")
    monkeypatch.setenv("JUPYTERHUB_OAUTH_CALLBACK_URL", "https://binder.example/oauth_callback")
    config.BinderHub.use_named_servers = False
    for name, value in settings.items():
        setattr(config.BinderHub if name == "auth_enabled" else config.PangeoBinderHub, name, value)
    app = PangeoBinderHub(config=config)
    initialize(app)
    people = app._context().people
    assert people is not None and people.is_required is required
    assert people.oauth.client_id == "service-binderhub"
    assert people.oauth.redirect_uri == "https://binder.example/oauth_callback"


def test_by_default_nobody_signs_in(config: Config) -> None:
    app = PangeoBinderHub(config=config)
    initialize(app)
    assert app._context().people is None


def test_clients_settings_have_binderhubs_names(config: Config) -> None:
    """Each of BinderHub's names wins over `limits`, and one that is not set leaves it as it is."""
    config.PangeoBinderHub.limits = limits = Limits("key", 60, cors_allow_origin="https://a.example")
    assert PangeoBinderHub(config=config)._make_limits() == limits
    config.BinderHub.build_token_secret = b"another key"
    config.BinderHub.build_token_expires_seconds = 300
    config.BinderHub.build_token_check_origin = False
    config.BinderHub.cors_allow_origin = "*"
    made = PangeoBinderHub(config=config)._make_limits()
    assert made == Limits(b"another key", 300, build_token_check_origin=False, cors_allow_origin="*")


async def test_api_only_mode_has_binderhubs_name(config: Config, started: Callable[[], PangeoBinderHub]) -> None:
    config.BinderHub.enable_api_only_mode = True
    app = started()
    programs, streams = {"/metrics", "/versions", "/api/repoproviders"}, {"/build/git/x/main", "/health"}
    found = {path: (await get(app, path)).code for path in ADDRESSES if path not in streams}
    assert {path for path, code in found.items() if code == 200} == programs
    assert {code for path, code in found.items() if path not in programs} == {404}


def test_the_binder_needs_no_cluster(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The binder sends no request to Kubernetes or Docker; neither is reachable here."""
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    app = PangeoBinderHub(config=config)
    initialize(app)
    assert not app.builder_required and not app.use_registry
    assert isinstance(app.tornado_app, Application)
    for name in ("build_cleaner_class", "launch_quota_class"):
        if app.has_trait(name):
            assert "Kubernetes" not in str(getattr(app, name)), name


@pytest.mark.parametrize("path", ADDRESSES)
def test_our_handlers_answer_every_address(config: Config, path: str) -> None:
    """BinderHub's own handlers come after ours and are never reached."""
    app = PangeoBinderHub(config=config)
    initialize(app)
    line, headers = RequestStartLine("GET", path, "HTTP/1.1"), HTTPHeaders({"Host": "binder.example.org"})
    request = HTTPServerRequest(start_line=line, headers=headers)
    delegate = app.tornado_app.find_handler(request)
    assert issubclass(delegate.handler_class, BaseHandler), delegate.handler_class


async def test_the_binder_starts_listens_only_on_its_address_and_stops(started: Callable[[], PangeoBinderHub]) -> None:
    app = started()
    addresses = {each.getsockname()[0] for each in app.http_server._sockets.values()}
    assert addresses == {"127.0.0.1"}
    assert (await get(app, "/versions")).code == 200
    app.http_server.stop()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", app.port)) != 0


async def test_versions_include_binderhub(started: Callable[[], PangeoBinderHub]) -> None:
    shown = json.loads((await get(started(), "/versions")).body)
    assert shown["binderhub"] == importlib.metadata.version("binderhub")
    assert shown["pangeo-binder"] == __version__


async def test_the_operators_sentences_are_on_the_pages(started: Callable[[], PangeoBinderHub], config: Config) -> None:
    config.PangeoBinderHub.notice = "Closed on Monday."
    config.PangeoBinderHub.about = ["At most 300 sessions at once."]
    app = started()
    shown = (await get(app, "/about")).body.decode()
    assert "Closed on Monday." in shown and "At most 300 sessions at once." in shown
    assert "Closed on Monday." in (await get(app, "/")).body.decode()


async def test_about_names_the_supported_environment_files(started: Callable[[], PangeoBinderHub]) -> None:
    shown = (await get(started(), "/about")).body.decode()
    built = shown.partition("This service builds environments from")[2].partition(".\n")[0]
    assert "requirements.txt" in built and "environment.yml" not in built


async def test_health_reports_a_service_that_does_not_answer(
    started: Callable[[], PangeoBinderHub], config: Config
) -> None:
    config.PangeoBinderHub.health_urls = {"hub": "http://127.0.0.1:1/hub/api/"}
    answer = await get(started(), "/health")
    assert answer.code == 503 and b"does not answer" in answer.body


async def test_no_query_is_logged(started: Callable[[], PangeoBinderHub], caplog: pytest.LogCaptureFixture) -> None:
    """A link may hold a token, and BinderHub's main branch logs whole addresses."""
    app = started()
    with caplog.at_level("DEBUG"):
        for path in ("/versions?secret=s3cret", "/nothing?secret=s3cret", "/v2/git/x/main?urlpath=s3cret"):
            await get(app, path)
    assert "/nothing" in caplog.text and "s3cret" not in caplog.text


async def test_links_and_builds_reach_the_private_hosts_that_the_operator_names(
    config: Config, started: Callable[[], PangeoBinderHub]
) -> None:
    config.PangeoBinderHub.internal_hosts = ["git.example.org"]
    config.PangeoBinderHub.internal_networks = ["10.2.0.0/28"]
    config.PangeoBinderHub.gitlab_address = "https://gitlab.example.org"
    app = started()
    built = app._builder.settings.git.addresses  # type: ignore[attr-defined]
    for rules in (built, provider_for(app._providers, "git")._access.addresses):  # type: ignore[attr-defined]
        assert {"git.example.org", "gitlab.example.org"} < rules.hosts and not rules.everywhere
        assert rules.allows("10.2.0.7") and not rules.allows("10.3.0.7")


def test_launch_events_go_to_the_handlers_of_binderhubs_event_log(config: Config) -> None:
    written = io.StringIO()
    config.EventLog.handlers_maker = lambda log: [logging.StreamHandler(written)]
    app = PangeoBinderHub(config=config)
    initialize(app)
    app._context().launch_log.write(Launched("gh", "org/sea/main", "a" * 40, True, "binder.example.org", ""))
    assert json.loads(written.getvalue())["schema"] == "binderhub.jupyter.org/launch"
