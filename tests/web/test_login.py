"""A binder with a token answers nobody else: through every route, with every way to bring the token."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import aiohttp
import pytest
from playwright.async_api import Browser, expect
from yarl import URL

from pangeo_binder.web.api import HealthApi
from pangeo_binder.web.badge import RootFile, StaticFile
from pangeo_binder.web.login import Login, without_token
from pangeo_binder.web.pages import EndedPage
from pangeo_binder.web.routes import routes
from pangeo_binder.web.stopping import LaunchStream
from tests.web.webapp import SmallLaunch, WebApp, bad_events, context_of, exactly

TOKEN = "5e" * 32
OPEN = {HealthApi, StaticFile, RootFile, EndedPage}
LINK = "/v2/git/https%3A%2F%2Fexample.org%2Fother/main"
EVENTS = {"Accept": "text/event-stream"}


def sample(pattern: str) -> str:
    """Return a path that `pattern`, a route's regular expression, matches."""
    path = re.sub(r"\((\w[^|()]*)\|[^()]*\)", r"\1", pattern)  # the first alternative
    path = path.replace("(?:/.*)?", "").replace("([a-z0-9_.-]+)", "style.css")
    path = re.sub(r"\[\^/\]\+|\.[+*]", "git", path).replace("\\", "")
    path = path if path.startswith("/") else f"/{path}"
    assert re.fullmatch(pattern, path), f"this test makes no path for {pattern}"
    return path


ROUTES = [(sample(pattern), handler) for pattern, handler, _ in routes(context_of(SmallLaunch([])))]


def is_refused(status: int, body: str) -> bool:
    return "login_required" in body if status == 200 else status == 403 and "needs a token" in body


@pytest.mark.parametrize(("path", "handler"), ROUTES, ids=[path for path, _ in ROUTES])
async def test_every_route_needs_the_token_or_is_named_here(
    web: WebApp, http: aiohttp.ClientSession, path: str, handler: type
) -> None:
    launch = SmallLaunch(bad_events())
    url = exactly(web.start(launch, login_token=TOKEN) + path)
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        for headers in (EVENTS, {}, {"Authorization": "token wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            async with http.request(method, url, headers=headers) as response:
                refused = is_refused(response.status, await response.text())
            if handler in OPEN:
                assert not refused
            elif method == "GET":
                assert refused, (method, headers)
            else:  # the stream answers other methods with an event
                assert refused or response.status in (403, 405) or handler is LaunchStream, (method, headers)
    assert launch.clicks == []
    for scheme in ("token", "Bearer"):
        async with http.get(url, headers={**EVENTS, "Authorization": f"{scheme} {TOKEN}"}) as response:
            assert not is_refused(response.status, await response.text())
    async with http.get(URL(f"{url}?token={TOKEN}", encoded=True), headers=EVENTS, allow_redirects=False) as response:
        assert (response.status == 303) == (handler not in OPEN | {LaunchStream})


async def test_a_binder_without_a_token_needs_none(web: WebApp, http: aiohttp.ClientSession) -> None:
    url = web.start(launch := SmallLaunch(bad_events()))
    async with http.get(f"{url}/?token=") as response:
        assert response.status == 200 and "Set-Cookie" not in response.headers
    async with http.get(exactly(url + LINK.replace("v2", "build")), headers=EVENTS) as response:
        assert "login_required" not in await response.text()
    assert len(launch.clicks) == 1


async def test_the_stream_refuses_by_an_event(web: WebApp, http: aiohttp.ClientSession) -> None:
    """An EventSource connects again after any other status, and its page could not show the reason."""
    url = exactly(web.start(SmallLaunch([]), login_token=TOKEN) + LINK.replace("v2", "build"))
    async with http.get(url, headers=EVENTS) as response:
        event = json.loads((await response.text()).partition("data: ")[2])
    assert (response.status, event["phase"], event["reason"]) == (200, "failed", "login_required")
    assert event["message"].strip() and event["hint"]


@pytest.mark.parametrize("base", ["/", "/services/binder/"])
async def test_the_token_in_an_address_becomes_a_cookie(web: WebApp, base: str) -> None:
    url = web.start(SmallLaunch([]), login_token=TOKEN, base_url=base) + base.rstrip("/")
    asked = f"{url}{LINK}?urlpath=a%20b&token={TOKEN}&x=1%2B1"
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        async with http.get(exactly(asked), allow_redirects=False) as response:
            cookie = response.headers["Set-Cookie"]
            assert response.status == 303
            assert response.headers["Location"] == f"{base.rstrip('/')}{LINK}?urlpath=a%20b&x=1%2B1"
        assert TOKEN not in cookie
        assert {"HttpOnly", "SameSite=Lax", f"Path={base}"} <= set(cookie.split("; "))
        async with http.get(f"{url}/about") as response:
            assert response.status == 200


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("/?token=x", "/"),
        ("//evil.example/?token=x", "/evil.example/"),
        ("/\\evil.example?token=x&a=b", "/evil.example?a=b"),
        ("/a?%74oken=x&tokens=y", "/a?tokens=y"),
    ],
)
def test_the_redirect_stays_here_and_drops_only_the_token(asked: str, found: str) -> None:
    path, _, query = asked.partition("?")
    assert without_token(path, query) == found


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "0", TOKEN.upper(), "ä", "\udc80"])
def test_another_token_is_refused(token: str) -> None:
    assert Login(TOKEN).accepts(TOKEN) and not Login(TOKEN).accepts(token)
    assert not Login("").accepts(token)


async def test_a_cookie_of_another_run_is_refused(web: WebApp) -> None:
    url = web.start(SmallLaunch([]), login_token=TOKEN)
    other = Login("another token")
    cookies = {Login(TOKEN).cookie_name: other.cookie_value, other.cookie_name: other.cookie_value}
    async with aiohttp.ClientSession(cookies=cookies) as http, http.get(f"{url}/about") as response:
        assert response.status == 403


async def test_programs_get_json(web: WebApp, http: aiohttp.ClientSession) -> None:
    url = web.start(SmallLaunch([]), login_token=TOKEN)
    async with http.get(f"{url}/versions", headers={"Accept": "application/json"}) as response:
        assert (response.status, (await response.json())["reason"]) == (403, "login_required")


@pytest.mark.browser
async def test_the_form_logs_in_and_the_launch_page_then_asks(web: WebApp, chromium: Browser) -> None:
    launch = SmallLaunch(bad_events())
    url = web.start(launch, login_token=TOKEN, ask_first=True)
    page = await chromium.new_page()
    await page.goto(f"{url}{LINK}?urlpath=lab&token=wrong")
    await page.get_by_label("Token").fill("wrong")
    await page.get_by_role("button", name="Continue").click()
    await page.get_by_label("Token").fill(TOKEN)
    await page.get_by_role("button", name="Continue").click()
    await page.wait_for_url(f"**{LINK}?urlpath=lab&ask=true")
    assert launch.clicks == []
    await page.get_by_role("button", name="Launch").click()
    await expect(page.locator("#failure")).to_be_visible(timeout=30_000)
    assert len(launch.clicks) == 1
    await page.goto(f"{url}/about")
    assert await page.get_by_role("heading", name="About this service").count() == 1


@pytest.mark.browser
async def test_an_address_with_the_token_opens_at_once(web: WebApp, chromium: Browser) -> None:
    launch = SmallLaunch(bad_events())
    url = web.start(launch, login_token=TOKEN, ask_first=True)
    page = await chromium.new_page()
    await page.goto(f"{url}{LINK}?token={quote(TOKEN)}")
    await expect(page.locator("#failure")).to_be_visible(timeout=30_000)
    assert len(launch.clicks) == 1 and TOKEN not in page.url
