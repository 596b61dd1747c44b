"""Test the binder's pages, badges and API over HTTP."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import pytest

from pangeo_binder import metrics
from pangeo_binder.model import RepoRef
from pangeo_binder.repos.github import GitHubProvider
from pangeo_binder.repos.gitlab import GitLabProvider
from pangeo_binder.repos.registry import make_providers
from pangeo_binder.web.context import Check
from pangeo_binder.web.handler import BaseHandler, Shared
from pangeo_binder.web.limits import LimitChecker, Limits
from tests.web.webapp import AnySpec, SmallLaunch, WebApp, context_of, exactly

LINK = "/v2/git/https%3A%2F%2Fexample.org%2Fsst/main"
NO_LAUNCH = SmallLaunch([])


@pytest.mark.parametrize("path", ["/", "/about", LINK, "/user/x/lab", "/nowhere", "/badge.svg", "/health"])
async def test_every_response_has_security_headers(web: WebApp, http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(web.start(NO_LAUNCH) + path) as response:
        headers = response.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Access-Control-Allow-Origin" not in headers and "Server" not in headers


@pytest.mark.parametrize(
    ("link", "site", "asks"),
    [
        ("/v2/git/https%3A%2F%2Fexample.org%2Fother/main", "cross-site", True),
        ("/v2/git/https%3A%2F%2Fexample.org%2Fother/main", "none", False),
        ("/v2/git/https%3A%2F%2Fexample.org%2Fother/main", "same-origin", False),
        (LINK, "cross-site", False),
    ],
)
async def test_asks_users_who_come_from_another_page_except_for_examples(
    web: WebApp, http: aiohttp.ClientSession, link: str, site: str, asks: bool
) -> None:
    url = exactly(web.start(NO_LAUNCH, ask_first=True) + link)
    async with http.get(url, headers={"Sec-Fetch-Site": site}) as response:
        assert ('id="ask"' in await response.text()) == asks


async def small_preview(ref: RepoRef, path: str) -> str:
    return "<p>A notebook</p>"


async def test_a_preview_needs_the_token_of_its_launch_page(web: WebApp, http: aiohttp.ClientSession) -> None:
    limits = Limits(build_token_key="a key of the tests")
    url, link = web.start(NO_LAUNCH, limits=limits, preview=small_preview), LINK.removeprefix("/v2/")
    token = LimitChecker(limits).build_tokens.issue(link, url.removeprefix("http://"))

    async def status(link: str, **query: str) -> int:
        async with http.get(exactly(f"{url}/preview/{link}?{urlencode(query)}")) as response:
            policy = response.headers["Content-Security-Policy"]
            assert ("sandbox allow-popups" in policy) == (response.status == 200) and "script" not in policy.replace(
                "script-src 'self'", ""
            )
            return response.status

    assert await status(link, path="a b.ipynb", build_token=token) == 200
    assert await status(link, path="a b.ipynb") == 403
    assert await status(link.replace("sst", "other"), path="a b.ipynb", build_token=token) == 403
    for path in ("../a.ipynb", "a\n.ipynb", "x" * 5000):
        assert await status(link, path=path, build_token=token) == 400


async def test_the_landing_page_offers_the_examples(web: WebApp, http: aiohttp.ClientSession) -> None:
    async with http.get(web.start(NO_LAUNCH, notice="Closed <on> Monday.") + "/") as response:
        page = await response.text()
    assert response.status == 200
    assert '"/v2/git/https%3A%2F%2Fexample.org%2Fsst/main?urlpath=lab"' in page
    assert "Closed &lt;on&gt; Monday." in page


@pytest.mark.parametrize("path", ["/", "/about", "/health", LINK])
async def test_pages_work_under_a_url_prefix(web: WebApp, http: aiohttp.ClientSession, path: str) -> None:
    url = web.start(NO_LAUNCH, base_url="/services/binder/")
    async with http.get(f"{url}/services/binder{path}") as response:
        assert response.status == 200
        assert 'href="/about"' not in await response.text()
    async with http.get(url + path) as response:
        assert response.status == 404


@pytest.mark.parametrize(
    ("query", "opens"),
    [
        ("", "lab"),
        ("?urlpath=%2Flab%2Ftree%2Fx&labpath=y", "lab/tree/x"),
        ("?labpath=a%20b.ipynb", "lab/tree/a%20b.ipynb"),
        ("?filepath=x.md", "lab/tree/x.md"),
    ],
)
async def test_the_launch_page_has_the_path_to_open(
    web: WebApp, http: aiohttp.ClientSession, query: str, opens: str
) -> None:
    async with http.get(exactly(web.start(NO_LAUNCH) + LINK + query)) as response:
        page = await response.text()
    assert f'data-urlpath="{opens}"' in page and "<noscript>" in page
    assert 'data-stream="/build/git/https%3A%2F%2Fexample.org%2Fsst/main?build_token=' in page
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("link", "offered"),
    [
        ("gh/org/sea/mian", "gh/org/sea/HEAD"),
        (
            "gh/org/sea/mian?urlpath=rstudio%3Fa%3D1%26b%3D%22&token=x&ask=true",
            "gh/org/sea/HEAD?urlpath=rstudio%3Fa%3D1%26b%3D%22",
        ),
        ("gl/group%2Fsea/mian?labpath=a%20b%23.ipynb", "gl/group%2Fsea/HEAD?labpath=a%20b%23.ipynb"),
        ("git/https%3A%2F%2Fexample.org%2Fsea/v%2F1", "git/https%3A%2F%2Fexample.org%2Fsea/HEAD"),
        ("gh/org/sea/HEAD", ""),
        ("gh/org/sea", ""),
    ],
)
async def test_the_launch_page_can_offer_the_default_branch(
    web: WebApp, http: aiohttp.ClientSession, link: str, offered: str
) -> None:
    async with http.get(exactly(f"{web.start(NO_LAUNCH, providers=make_providers())}/v2/{link}")) as response:
        page = await response.text()
    found = re.search(r'<p id="default" hidden><a class="button" href="([^"]*)">', page)
    assert (html.unescape(found[1]) if found else "") == (f"/v2/{offered}" if offered else "")


async def test_previews_of_links_name_the_repository(web: WebApp, http: aiohttp.ClientSession) -> None:
    url = web.start(NO_LAUNCH)
    link = "/v2/git/https%3A%2F%2Fexample.org%2Fsea%3Cimg%3E/a%26b%22c"
    async with http.get(exactly(url + link)) as response:
        page = await response.text()
    shown = dict(re.findall(r'<meta property="og:(\w+)" content="([^"]*)">', page))
    assert shown["title"] == "Launch sea&lt;img&gt;"
    assert shown["description"].startswith("https://example.org/sea&lt;img&gt; at a&amp;b&#34;c: a running notebook")
    assert shown["image"].startswith(f"{url}/static/social.png?v=")
    async with http.get(shown["image"]) as response:
        assert response.status == 200 and response.content_type == "image/png"
    async with http.get(f"{url}/") as response:
        assert '<meta property="og:title" content="Pangeo Binder">' in await response.text()


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/v2/zenodo/10.5281/1", 404, "does not know"),
        ("/v2/git/refused/main", 404, "The link does not name a repository."),
        (LINK + "?urlpath=//evil.example", 400, "must stay inside"),
        (LINK + "?urlpath=https://evil.example/", 400, "must stay inside"),
        (LINK + "?labpath=../../hub", 400, "must stay inside"),
        (LINK + "?urlpath=%ff", 400, "not valid UTF-8"),
        ("/repo/org/name", 404, "old form"),
        ("/v2/git", 404, "no page"),
        ("/static/../base.html", 404, "no page"),
        ("/static/none.js", 404, "no page"),
        ("/%ff", 404, "no page"),
    ],
)
async def test_a_refusal_is_a_page_or_json_with_the_reason(
    web: WebApp, http: aiohttp.ClientSession, path: str, status: int, sentence: str
) -> None:
    url = web.start(NO_LAUNCH) + path
    async with http.get(exactly(url)) as response:
        assert (response.status, response.content_type) == (status, "text/html")
        assert sentence in await response.text()
    async with http.get(exactly(url), headers={"Accept": "application/json"}) as response:
        body = await response.json()
    assert body["status"] == response.status == status
    assert sentence in body["message"]


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/repo/org/name", "/v2/gh/org/name/HEAD"),
        ("/repo/org/name/", "/v2/gh/org/name/HEAD"),
        ("/repo/org/name/dev?urlpath=lab", "/v2/gh/org/name/dev?urlpath=lab"),
        ("/repo/org/name/feature/x", "/v2/gh/org/name/feature/x"),
        ("/repo/%2F%2Fevil.example/name", "/v2/gh///evil.example/name/HEAD"),
        ("/repo/a%0d%0aX-Evil:1/name", "/v2/gh/a%0D%0AX-Evil%3A1/name/HEAD"),
    ],
)
async def test_old_links_redirect_to_new_ones(web: WebApp, http: aiohttp.ClientSession, path: str, target: str) -> None:
    url = web.start(NO_LAUNCH, providers=(AnySpec(), GitHubProvider())) + path
    async with http.get(exactly(url), allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, target)
    assert "X-Evil" not in response.headers


HOSTILE = [
    '"><script>alert(1)</script>',
    "'-alert(1)-'",
    "</title><img src=x onerror=alert(1)>",
    "{{7*7}}",
    "javascript:x",
]


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_links_are_escaped(web: WebApp, http: aiohttp.ClientSession, text: str) -> None:
    quoted = quote(text, safe="")
    url = f"{web.start(NO_LAUNCH)}/v2/git/{quoted}/{quoted}?labpath={quoted}"
    async with http.get(exactly(url)) as response:
        page = await response.text()
    assert text not in page or text in ("{{7*7}}", "javascript:x")
    assert 'href="javascript:' not in page and "<script>" not in page and "<img src=x" not in page


async def test_a_hostile_unencoded_path_is_escaped(web: WebApp, http: aiohttp.ClientSession) -> None:
    url = f'{web.start(NO_LAUNCH)}/v2/git/"><script>alert(1)</script>/x"onload="y'
    async with http.get(exactly(url)) as response:
        page = await response.text()
    assert "<script>" not in page and 'x"onload' not in page


async def test_the_page_of_an_ended_session(web: WebApp, http: aiohttp.ClientSession) -> None:
    url = web.start(NO_LAUNCH)
    async with http.get(f"{url}/user/sst-abc/lab/tree/x?token=s3cret") as response:
        page = await response.text()
        assert response.status == 404 and "This session has ended" in page and "s3cret" not in page
    async with http.get(f"{url}/user/x/api/kernels", headers={"Accept": "application/json"}) as response:
        assert response.status == 404 and (await response.json())["reason"] == "session_ended"
    async with http.post(f"{url}/user/x/api/kernels") as response:
        assert response.status == 404 and response.content_type == "application/json"


class BrokenSpec(AnySpec):
    """A provider with a bug."""

    def parse(self, spec: str) -> RepoRef:
        raise KeyError("the database's password")


async def test_a_bug_shows_an_id_and_logs_the_rest(
    web: WebApp, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    async with http.get(web.start(NO_LAUNCH, providers=(BrokenSpec(),)) + LINK + "?token=s3cret") as response:
        page = await response.text()
    assert response.status == 500 and "password" not in page
    record = next(record for record in caplog.records if record.name == "pangeo_binder.web")
    assert str(record.args[0]) in page and record.exc_info and "s3cret" not in caplog.text  # type: ignore[index]


class Thrower(BaseHandler):
    """Handler that fails like Tornado's own checks."""

    def get(self) -> None:
        self.send_error(405)


async def test_tornados_own_errors_get_our_error_page(web: WebApp, http: aiohttp.ClientSession) -> None:
    more = [("/broken", Thrower, {"shared": Shared(context_of(NO_LAUNCH))})]
    async with http.get(web.start(NO_LAUNCH, more) + "/broken") as response:
        assert response.status == 405 and "cannot be answered" in await response.text()
    async with http.delete(web.start(NO_LAUNCH) + "/about") as response:
        assert response.status == 405 and "cannot be answered" in await response.text()


async def test_banned_networks_get_only_health_and_badges(web: WebApp, http: aiohttp.ClientSession) -> None:
    url = web.start(NO_LAUNCH, limits=Limits("key", banned_networks=("127.0.0.0/8",)))
    for path, status in (("/", 403), (LINK, 403), ("/health", 200), ("/badge.svg", 200)):
        async with http.get(url + path) as response:
            assert response.status == status
    async with http.get(url + "/", headers={"X-Forwarded-For": "192.0.2.1"}) as response:
        assert response.status == 200


@pytest.mark.parametrize("name", ["badge.svg", "badge_logo.svg"])
async def test_badges_are_cacheable_svg_images(web: WebApp, http: aiohttp.ClientSession, name: str) -> None:
    async with http.get(f"{web.start(NO_LAUNCH)}/{name}") as response:
        image = ElementTree.fromstring(await response.text())
    assert response.content_type == "image/svg+xml"
    assert "max-age=86400" in response.headers["Cache-Control"]
    assert image.tag == "{http://www.w3.org/2000/svg}svg" and image.attrib["height"] == "20"
    assert not any("href" in key for element in image.iter() for key in element.attrib)


async def test_static_files_are_cached_only_with_their_version(web: WebApp, http: aiohttp.ClientSession) -> None:
    url = web.start(NO_LAUNCH)
    asset = Shared(context_of(NO_LAUNCH)).asset("style.css")
    for path, cached in ((asset, True), ("/static/style.css", False), ("/static/style.css?v=old", False)):
        async with http.get(url + path) as response:
            assert response.status == 200
            assert ("max-age=31536000" in response.headers["Cache-Control"]) is cached


@pytest.mark.parametrize("healthy", [True, False])
async def test_health(web: WebApp, http: aiohttp.ClientSession, healthy: bool) -> None:
    async def checks() -> Sequence[Check]:
        return [Check("hub", True), Check("gateway", healthy, "" if healthy else "It does not answer.")]

    async with http.get(web.start(NO_LAUNCH, health=checks) + "/health") as response:
        body = await response.json()
    assert (response.status, body["ok"]) == ((200, True) if healthy else (503, False))
    assert body["checks"][0] == {"service": "hub", "ok": True, "age_seconds": 0}
    assert body["checks"][1]["ok"] is healthy


async def test_a_health_check_that_raises_is_unhealthy(web: WebApp, http: aiohttp.ClientSession) -> None:
    async def checks() -> Sequence[Check]:
        raise OSError("10.0.0.1 refused")

    async with http.get(web.start(NO_LAUNCH, health=checks) + "/health") as response:
        assert response.status == 503 and "10.0.0.1" not in await response.text()


async def test_versions_and_metrics(web: WebApp, http: aiohttp.ClientSession) -> None:
    url = web.start(NO_LAUNCH)
    async with http.get(url + "/versions") as response:
        shown = await response.json()
        assert (shown["binderhub"], shown["builder"]) == ("0.1.0", "pangeo-binder 1.0")
        assert response.headers["Access-Control-Allow-Origin"] == "*"
    async with http.get(url + "/metrics") as response:
        names = [series.name for series in metrics.BUILDS_IN_PROGRESS.describe()]
        assert names[0] in await response.text()


async def test_repoproviders_have_binderhubs_format(web: WebApp, http: aiohttp.ClientSession) -> None:
    async with http.get(
        web.start(NO_LAUNCH, providers=(AnySpec(), GitHubProvider())) + "/api/repoproviders"
    ) as response:
        git, gh = await response.json()
    assert git["id"] == "git" and git["repo"]["urlEncode"] is True and "detect" not in git
    assert gh["displayName"] == "GitHub" and gh["ref"] == {"enabled": True, "default": "HEAD"}


def test_a_provider_returns_the_spec_of_a_link() -> None:
    assert AnySpec().spec(RepoRef("git", "https://a.example/b.git", "x/y")) == "https%3A%2F%2Fa.example%2Fb.git/x/y"
    assert GitHubProvider().spec(RepoRef("gh", "https://github.com/org/repo", "x/y")) == "org/repo/x/y"
    assert GitLabProvider().spec(RepoRef("gl", "https://gitlab.com/a/b/c", "main")) == "a%2Fb%2Fc/main"


@pytest.mark.parametrize("wrong", [{"base_url": "/binder"}, {"hub_url": "hub/"}, {"providers": {}}])
def test_an_invalid_context_raises_at_start(web: WebApp, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must start and end|needs the provider"):
        web.start(NO_LAUNCH, **wrong)
