"""The binder of a service whose sessions each have a host name of their own, over HTTP and in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from playwright.async_api import Browser, async_playwright, expect
from tornado.web import RequestHandler

from pangeo_binder.web.limits import Limits
from tests.stack.browser import ARGUMENTS, chromium_path
from tests.web.webapp import SmallLaunch, WebApp, good_events

LINK = "/v2/git/https%3A%2F%2Fexample.org%2Fsst/main"
DOMAIN = "binder.test"
APART: dict[str, Any] = {"limits": Limits("a key of the tests", hosts=(DOMAIN,), session_domain=DOMAIN)}


class Login(RequestHandler):
    """The login page and the front page of a Jupyter server: a form with the token gets a cookie and a redirect."""

    def post(self) -> None:
        if self.get_body_argument("token") != "s3cret" or self.get_body_argument("password") != "s3cret":
            self.set_status(403)
            return
        self.set_cookie("login", "yes", path="/user/sst-abc/", httponly=True)
        self.redirect(self.get_query_argument("next"))

    def get(self) -> None:
        self.finish(f"<title>server</title><link rel=icon href=data:,><p>login: {self.get_cookie('login')}</p>")


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        rules = f"--host-resolver-rules=MAP {DOMAIN} 127.0.0.1,MAP *.{DOMAIN} 127.0.0.1"
        browser = await playwright.chromium.launch(executable_path=chromium_path(), args=[*ARGUMENTS, rules])
        yield browser
        await browser.close()


@pytest.mark.browser
async def test_a_launch_sends_the_token_by_a_form_to_the_sessions_host(web: WebApp, chromium: Browser) -> None:
    launch = SmallLaunch([])
    port = urlsplit(web.start(launch, [("/user/sst-abc/.*", Login)], **APART)).port
    server = f"http://sst-abc.{DOMAIN}:{port}/user/sst-abc/"
    launch.events = good_events(server)
    context = await chromium.new_context()
    page, seen = await context.new_page(), []
    page.on("request", lambda sent: seen.append(sent.url))
    await page.goto(f"http://{DOMAIN}:{port}{LINK}?urlpath=lab%3Freset%23a")
    await expect(page).to_have_url(f"{server}lab?reset#a", timeout=20_000)
    await expect(page.get_by_text("login: yes")).to_be_visible()
    assert not any("s3cret" in url for url in seen)
    (cookie,) = await context.cookies()
    assert (cookie["domain"], cookie["path"]) == (f"sst-abc.{DOMAIN}", "/user/sst-abc/")
    await page.go_back()
    await expect(page).not_to_have_url(f"http://{DOMAIN}:{port}{LINK}?urlpath=lab%3Freset%23a")
    assert len(launch.clicks) == 1, "the way back does not launch again"
    await context.close()


async def test_the_pipeline_is_told_where_sessions_are(web: WebApp, http: aiohttp.ClientSession) -> None:
    launch = SmallLaunch(good_events("/user/sst-abc/"))
    url = web.start(launch, **APART)
    port = urlsplit(url).port
    headers = {"Accept": "text/event-stream", "Host": f"{DOMAIN}:{port}"}
    async with http.get(f"{url}{LINK.replace('/v2/', '/build/')}", headers=headers) as response:
        await response.read()
    assert [click.hub_url_of("sst-abc") for click in launch.clicks] == [f"http://sst-abc.{DOMAIN}:{port}/"]


@pytest.mark.parametrize("path", ["/", "/about", "/health", LINK, LINK.replace("/v2/", "/build/"), "/static/launch.js"])
async def test_no_page_has_a_sessions_origin(web: WebApp, http: aiohttp.ClientSession, path: str) -> None:
    url, headers = web.start(SmallLaunch([]), **APART), {"Accept": "text/event-stream"}
    async with http.get(url + path, headers={**headers, "Host": f"sst-abc.{DOMAIN}"}) as response:
        refused = "does not allow requests to this host name" in await response.text()
        assert refused and "url" not in response.headers
    async with http.get(url + path, headers={**headers, "Host": DOMAIN}) as response:
        assert "does not allow requests to this host name" not in await response.text()


@pytest.mark.parametrize(("host", "moves"), [(f"sst-abc.{DOMAIN}:81", True), (DOMAIN, False), ("evil.example", False)])
async def test_an_ended_sessions_address_leads_to_the_page_at_the_binders_host(
    web: WebApp, http: aiohttp.ClientSession, host: str, moves: bool
) -> None:
    url = web.start(SmallLaunch([]), **APART)
    async with http.get(f"{url}/user/x/lab", headers={"Host": host}, allow_redirects=False) as got:
        assert (got.status == 302) is moves
        assert got.headers.get("Location", "") == (f"http://{DOMAIN}:81/user/x/lab" if moves else "")


async def test_forms_may_go_to_sessions_only_from_a_launch_page(web: WebApp, http: aiohttp.ClientSession) -> None:
    apart, together = web.start(SmallLaunch([]), **APART), web.start(SmallLaunch([]))
    for url, path, allowed in (
        (apart, LINK, f"form-action 'self' *.{DOMAIN}:81;"),
        (apart, "/", "form-action 'self';"),
        (together, LINK, "form-action 'self';"),
    ):
        async with http.get(url + path, headers={"Host": f"{DOMAIN}:81"}) as response:
            assert allowed in response.headers["Content-Security-Policy"]
            assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
