"""Test what pages of other origins may read and do: BinderHub's clients on pages of allowed sites, and no others."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from pangeo_binder.web.limits import Limits
from tests.web.webapp import SmallLaunch, WebApp, exactly, good_events

BUILD = "/build/git/https%3A%2F%2Fexample.org%2Fsst/main"
PAGE = BUILD.replace("/build/", "/v2/")
BOOK, EVIL = "https://book.example", "https://evil.example"
LIMITS = Limits("key", cors_allow_origin=f"{BOOK} https://thebe.example")
READ = ("/api/repoproviders", "/health", "/metrics", BUILD)
"""What programs read, and pages of allowed sites too."""
SENT = {"accept", "authorization", "cache-control", "last-event-id", "x-xsrftoken"}
"""The headers that EventSource and `@jupyterhub/binderhub-client` add, and for which browsers ask first."""


def launch() -> SmallLaunch:
    return SmallLaunch(good_events("/user/sst-abc/"))


def from_page(origin: str) -> dict[str, str]:
    return {"Accept": "text/event-stream", "Sec-Fetch-Site": "cross-site", "Origin": origin}


@pytest.mark.parametrize("path", READ)
async def test_pages_of_allowed_sites_read_what_programs_read(
    web: WebApp, http: aiohttp.ClientSession, path: str
) -> None:
    url = web.start(launch(), limits=LIMITS) + path
    for origin, allowed in ((BOOK, BOOK), (EVIL, None)):
        async with http.get(exactly(url), headers=from_page(origin)) as response:
            assert response.headers.get("Access-Control-Allow-Origin") == allowed
            assert response.headers["Vary"] == "Origin"
            assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize("path", READ)
async def test_the_preflight_request_needs_no_token_and_lists_the_clients_headers(
    web: WebApp, http: aiohttp.ClientSession, path: str
) -> None:
    url = web.start(launch(), limits=LIMITS, login_token="the token of this run") + path
    async with http.options(exactly(url), headers={"Origin": BOOK}) as response:
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (204, BOOK)
        assert set(response.headers["Access-Control-Allow-Headers"].split(", ")) == SENT
    async with http.options(exactly(url), headers={"Origin": EVIL}) as response:
        assert response.status == 204 and "Access-Control-Allow-Origin" not in response.headers


async def test_a_page_reads_why_it_is_refused(web: WebApp, http: aiohttp.ClientSession) -> None:
    url = web.start(launch(), limits=LIMITS, login_token="the token of this run")
    async with http.get(
        f"{url}/api/repoproviders", headers={**from_page(BOOK), "Accept": "application/json"}
    ) as answer:
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (403, BOOK)
        assert (await answer.json())["reason"] == "login_required"
    async with http.post(exactly(url + BUILD), headers=from_page(BOOK)) as answer:
        assert '"failed"' in await answer.text() and answer.headers["Access-Control-Allow-Origin"] == BOOK


@pytest.mark.parametrize("path", ["/", "/about", PAGE, "/nowhere"])
async def test_other_sites_read_no_page(web: WebApp, http: aiohttp.ClientSession, path: str) -> None:
    """A launch page has a build token."""
    async with http.get(exactly(web.start(launch(), limits=LIMITS) + path), headers=from_page(BOOK)) as response:
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_only_pages_of_allowed_sites_launch(web: WebApp, http: aiohttp.ClientSession) -> None:
    made = launch()
    url = web.start(made, limits=LIMITS) + BUILD
    async with http.get(exactly(url), headers=from_page(BOOK)) as response:
        assert '"ready"' in await response.text()
    async with http.get(exactly(url), headers=from_page(EVIL)) as response:
        assert '"ready"' not in await response.text()
    assert len(made.clicks) == 1


async def test_another_site_cannot_use_a_build_token_of_our_page(web: WebApp, http: aiohttp.ClientSession) -> None:
    url = web.start(launch(), limits=Limits("key", cors_allow_origin="*", require_build_token=True))
    async with http.get(exactly(url + PAGE)) as response:
        token = (await response.text()).partition("build_token=")[2].partition('"')[0]
    answers: dict[str, Any] = {}
    for origin in (url, EVIL):
        async with http.get(exactly(f"{url}{BUILD}?build_token={token}"), headers=from_page(origin)) as response:
            answers[origin] = await response.text()
    assert '"ready"' in answers[url]
    assert '"not_allowed"' in answers[EVIL] and '"ready"' not in answers[EVIL]
