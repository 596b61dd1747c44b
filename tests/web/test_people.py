"""Logins over HTTP without a hub: what needs one, which cookies and addresses are refused, and where sessions are."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from cryptography.fernet import Fernet

from pangeo_binder.errors import HubUnavailable, LoginNeeded, NotAllowed
from pangeo_binder.launch.hub import OwnServer
from pangeo_binder.local.ports import server_port
from pangeo_binder.model import ContainerImage, Launch, Repo, RepoRef, server_address
from pangeo_binder.names import server_name, user_name
from pangeo_binder.web import people
from pangeo_binder.web.context import People
from pangeo_binder.web.oauth import HubLogin, OAuthSettings
from pangeo_binder.web.people import LoginFailed, Seals, local_address
from pangeo_binder.web.signin import SignedIn, SignIn
from tests.web.webapp import GRANT, SmallLaunch, WebApp, exactly, good_events

LINK = "/v2/git/https%3A%2F%2Fexample.org%2Fsst/main"
BUILD = LINK.replace("v2", "build", 1)
ID = "abcdefghijkl"


async def no_sessions(person: str) -> list[OwnServer]:
    raise AssertionError("nobody signed in")


async def no_stop(launch: Launch) -> None:
    raise AssertionError("nobody signed in")


def logins(**changes: Any) -> People:
    """Return the logins of a binder whose hub does not answer."""
    oauth = OAuthSettings(f"http://127.0.0.1:{server_port('127.0.0.1')}/hub/api", "/hub/", secret="the binder's")
    found = People(oauth, ("a key of the tests",), no_sessions, no_stop, lambda person, launches: [], https=False)
    return replace(found, **changes)


@pytest.mark.parametrize("path", ["/", LINK, "/about", "/sessions", f"/sessions/{ID}", "/api/repoproviders"])
async def test_where_a_login_is_required_a_browser_is_sent_to_it(
    web: WebApp, http: aiohttp.ClientSession, path: str
) -> None:
    url = web.start(SmallLaunch([]), people=logins(is_required=True))
    async with http.get(url + path, allow_redirects=False) as answer:
        assert answer.status == 303
        assert answer.headers["Location"].startswith("/login?next=%2F")
    async with http.get(url + path, headers={"Accept": "application/json"}) as answer:
        assert (answer.status, (await answer.json())["reason"]) == (403, "login_needed")


@pytest.mark.parametrize("path", ["/health", "/metrics", "/versions", "/badge_logo.svg", "/static/style.css"])
async def test_monitoring_and_badges_need_no_login(web: WebApp, http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(web.start(SmallLaunch([]), people=logins(is_required=True)) + path) as answer:
        assert answer.status == 200


async def test_a_launch_without_the_required_login_is_refused_in_the_stream(
    web: WebApp, stream: Callable[..., Awaitable[str]]
) -> None:
    launch = SmallLaunch(good_events("/user/x/"))
    url = web.start(launch, people=logins(is_required=True))
    assert '"reason": "login_needed"' in await stream(url + BUILD)
    assert launch.clicks == []


async def test_where_a_login_is_offered_everybody_launches(
    web: WebApp, http: aiohttp.ClientSession, stream: Callable[..., Awaitable[str]]
) -> None:
    launch = SmallLaunch(good_events("/user/x/"))
    url = web.start(launch, people=logins())
    async with http.get(exactly(url + LINK)) as answer:
        page = await answer.text()
    assert f"/login?next={LINK.replace('%', '%25').replace('/', '%2F')}" in page and "Sign out" not in page
    async with http.get(exactly(f"{url}{LINK}?labpath=a%20b&token=s3cret")) as answer:
        page = await answer.text()
    assert "%3Flabpath%3Da%2520b" in page and "s3cret" not in page
    assert '"phase": "ready"' in await stream(url + BUILD)
    assert [click.user for click in launch.clicks] == [None]


@pytest.mark.parametrize("path", ["/login", "/oauth_callback", "/sessions", f"/sessions/{ID}/stop"])
async def test_a_binder_without_logins_has_no_such_pages(web: WebApp, http: aiohttp.ClientSession, path: str) -> None:
    url = web.start(SmallLaunch([]))
    async with http.get(url + path) as answer, http.get(url + "/") as front:
        assert answer.status == 404 and "Sign in" not in await front.text()


async def test_a_login_begins_at_the_hub_with_a_secret_of_the_browser(web: WebApp, http: aiohttp.ClientSession) -> None:
    url = web.start(SmallLaunch([]), people=logins())
    async with http.get(f"{url}/login?next=/about", allow_redirects=False) as answer:
        target, cookie = answer.headers["Location"], answer.headers["Set-Cookie"]
    assert target.startswith("/hub/api/oauth2/authorize?client_id=service-binder&redirect_uri=%2Foauth_callback&")
    assert "code_challenge_method=S256" in target and "the+binder" not in target
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Path=/" in cookie


async def test_over_https_no_other_host_can_set_the_cookies() -> None:
    signin = SignIn(logins(https=True))
    assert signin.cookie_name.startswith("__Host-") and signin.nonce_name.startswith("__Host-")


@pytest.mark.parametrize(
    "query", ["", "state=x&code=y", "error=access_denied", f"state={'x' * 7000}&code=y", "code=y", "state=%00&code=y"]
)
async def test_a_return_that_was_not_begun_here_is_refused(
    web: WebApp, http: aiohttp.ClientSession, query: str
) -> None:
    url = web.start(SmallLaunch([]), people=logins())
    async with http.get(f"{url}/oauth_callback?{query}") as answer:
        assert answer.status in (400, 403)
        assert "pangeo-binder-login" not in str(answer.headers)


@pytest.mark.parametrize("address", ["/", "/about", f"{LINK}?urlpath=lab%2Ftree%2Fa.ipynb", "/sessions"])
def test_a_login_returns_to_a_page_of_ours(address: str) -> None:
    assert local_address(address, "/") == address
    assert local_address(f"/binder{address}", "/binder/") == f"/binder{address}"
    assert local_address(address, "/binder/") == "/binder/"


@pytest.mark.parametrize(
    "address",
    [
        *("", "https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example"),
        *("/\n/evil.example", " //evil.example", "javascript:alert(1)", "/a b", "/../x", "/%2e%2e/x", "/\x00", "x"),
        "/" + "a" * 1500,
    ],
)
def test_a_login_returns_to_nowhere_else(address: str) -> None:
    assert local_address(address, "/") == "/"


def test_what_is_sealed_is_opened_by_its_key_and_kind_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new, other = Seals(["old"]), Seals(["new", "old"]), Seals(["other"])
    sealed = old.seal_login("the token")
    login = new.open_login(sealed)
    assert login is not None and login.token == "the token" and "the token" not in repr(login)
    assert other.open_login(sealed) is None and old.open_login("") is None
    state, _ = old.seal_state("/about", "n" * 43)
    assert old.open_state(state, "n" * 43).next == "/about"
    assert old.open_login(state) is None
    for wrong, nonce in ((sealed, "n" * 43), (state, "m" * 43), (state, ""), (state[:-1], "n" * 43)):
        with pytest.raises(LoginFailed):
            old.open_state(wrong, nonce)
    assert old.seal_login("the token") != sealed
    monkeypatch.setattr(people, "LOGIN_SECONDS", -1)
    assert old.open_login(sealed) is None


def test_a_login_is_of_limited_age() -> None:
    seals = Seals(["old"])
    fernet: Any = seals._logins
    old: Fernet = fernet._fernets[0]
    sealed = old.encrypt_at_time(b'{"token": "t", "nonce": "n"}', int(time.time()) - people.LOGIN_SECONDS - 1)
    assert seals.open_login(sealed.decode()) is None


def test_a_form_needs_the_token_of_its_login() -> None:
    signin, signed = SignIn(logins()), SignedIn(people.Person("ada"), "a" * 64)
    assert signin.check_form(signed, "a" * 64, cross_site=False) is signed
    for given, cross_site in (("a" * 64, True), ("b" * 64, False), ("", False), ("\ud800", False)):
        with pytest.raises(NotAllowed):
            signin.check_form(signed, given, cross_site=cross_site)
    with pytest.raises(NotAllowed):
        signin.check_form(SignedIn(people.Person("ada")), "", cross_site=False)
    with pytest.raises(LoginNeeded):
        signin.check_form(None, "", cross_site=False)


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "service", "name": "x", "scopes": ["access:services"]},
        {"kind": "user", "name": "ada", "scopes": ["access:services!service=dask-gateway"]},
        {"kind": "user", "name": "ada", "scopes": ["access:servers!server=ada/sea-abcdefghijkl"]},
        {"kind": "user", "name": user_name("sea", ID), "scopes": ["access:services"]},
        {"kind": "user", "name": None, "scopes": ["access:services"]},
        {},
    ],
)
def test_a_token_that_is_not_for_the_binder_is_nobodys(model: dict[str, Any]) -> None:
    assert HubLogin(logins().oauth)._person_of(model) is None


async def test_nobody_is_let_in_while_the_hub_does_not_answer() -> None:
    hub = HubLogin(logins().oauth)
    with pytest.raises(HubUnavailable):
        await hub.person("a token")
    for token in ("", "x" * 1001, "a\nb", "ä"):
        assert await hub.person(token) is None


def test_each_session_has_its_own_host_also_those_of_one_person() -> None:
    repo = Repo(RepoRef("git", "https://example.org/sea", "main"), "a" * 40)
    image = ContainerImage("e", "registry.example/e@sha256:0")
    own = Launch(ID, "ada@example.org", server_name("sea", ID), repo, image, GRANT)
    at = ("https://binder.example/", "binder.example")
    assert server_address(*at, own) == f"https://sea-{ID}.binder.example/user/ada@example.org/sea-{ID}/"
    other = Launch(ID, user_name("sea", ID), "", repo, image, GRANT)
    assert server_address(*at, other) == f"https://{other.user}.binder.example/user/{other.user}/"
    assert server_address("/", "", own) == f"/user/ada@example.org/sea-{ID}/"
    assert server_address("/", "", replace(own, user="a b/ü")) == f"/user/a%20b%2F%C3%BC/sea-{ID}/"
