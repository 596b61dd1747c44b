"""Test the pages in a real browser, with a small Jupyter-like server that the launch opens."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect
from tornado.web import RequestHandler

from pangeo_binder.errors import BuildFailed, RefNotFound
from pangeo_binder.events import Event, Phase, failed
from pangeo_binder.launch.preview import NoPreview
from pangeo_binder.model import RepoRef
from pangeo_binder.repos.git import GitProvider
from pangeo_binder.repos.github import GitHubProvider
from pangeo_binder.repos.registry import make_providers
from pangeo_binder.web.resume import ResumeLimits
from tests.web.test_resume import StepwiseLaunch
from tests.web.webapp import AnySpec, SmallLaunch, WebApp, bad_events, good_events

pytestmark = pytest.mark.browser

LINK = "/v2/git/https%3A%2F%2Fexample.org%2Fsst/main"
PLACEHOLDER = "https://github.com/org/repository"
WCAG_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
PAGES = ("/", LINK, "/about", "/user/gone/lab", "/nowhere")


class JupyterLike(RequestHandler):
    """Server that accepts its token in a header or in the URL and then sets a login cookie."""

    sets_cookies = True

    def get(self) -> None:
        token = self.request.headers.get("Authorization", "").removeprefix("token ") or self.get_argument("token", "")
        if token == "s3cret" and self.sets_cookies:
            self.set_cookie("login", "yes", path="/user/sst-abc/", httponly=True)
        if token != "s3cret" and self.get_cookie("login") != "yes":
            self.set_status(403)
        self.finish(f"<title>server</title><link rel=icon href=data:,><p>path: {self.request.path}</p>")


class WithoutCookies(JupyterLike):
    """Server that sets no cookies."""

    sets_cookies = False


def waiting(*events: Event) -> SmallLaunch:
    """A launch that stays in progress after the last of `events`."""
    return SmallLaunch(events, stays_seconds=3600)


def server(handler: type[RequestHandler]) -> list[tuple[str, type[RequestHandler]]]:
    return [("/user/sst-abc/.*", handler)]


async def test_the_form_makes_the_link_and_its_badges(web: WebApp, watch: Callable[..., Any]) -> None:
    url = web.start(SmallLaunch([]))
    seen = await watch()
    await seen.page.goto(url)
    await seen.page.get_by_label("Git repository URL").fill("https://example.org/a/b (c).git")
    await seen.page.get_by_label("Branch, tag or commit").fill("feature/x")
    await seen.page.get_by_role("textbox", name="Path").fill("/dir/a b.ipynb")
    link = f"{url}/v2/git/https%3A%2F%2Fexample.org%2Fa%2Fb%20%28c%29.git/feature/x?labpath=dir%2Fa%20b.ipynb"
    badge = f"{url}/badge_logo.svg"
    await expect(seen.page.get_by_label("Link", exact=True)).to_have_value(link)
    await expect(seen.page.get_by_label("Badge in Markdown", exact=True)).to_have_value(f"[![Launch]({badge})]({link})")
    await expect(seen.page.get_by_label("Badge in reStructuredText", exact=True)).to_have_value(
        f".. image:: {badge}\n   :alt: Launch\n   :target: {link}"
    )
    await expect(seen.page.get_by_label("Badge in HTML", exact=True)).to_have_value(
        f'<a href="{link}"><img src="{badge}" alt="Launch"></a>'
    )
    assert seen.stayed_at(url)


async def test_the_form_follows_the_kind_of_repository(web: WebApp, watch: Callable[..., Any]) -> None:
    url = web.start(SmallLaunch([]), providers=(AnySpec(), GitHubProvider()))
    seen = await watch()
    await seen.page.goto(url)
    await seen.page.get_by_label("Kind of repository").select_option("gh")
    await seen.page.get_by_label("GitHub repository").fill("https://github.com/org/repo/")
    await seen.page.get_by_label("Open").select_option("urlpath")
    await seen.page.get_by_role("textbox", name="Path").fill("rstudio?x=1&y=2")
    link = f"{url}/v2/gh/org/repo/HEAD?urlpath=rstudio%3Fx%3D1%26y%3D2"
    await expect(seen.page.get_by_label("Link", exact=True)).to_have_value(link)


PASTED = [
    ("https://github.com/org/repo/blob/main/a%20b/c.ipynb?raw=1#L3", "gh/org/repo/main?labpath=a%20b%2Fc.ipynb"),
    ("git@gitlab.com:group/sub/project.git", "gl/group%2Fsub%2Fproject/HEAD"),
    ("https://gitlab.com/group/sub/project/-/tree/dev/x", "gl/group%2Fsub%2Fproject/dev?labpath=x"),
    ("https://gitlab.com/group/project/-/merge_requests/3", "gl/group%2Fproject/refs/merge-requests/3/head"),
    ("https://example.org/org/repo.git", "git/https%3A%2F%2Fexample.org%2Forg%2Frepo.git/HEAD"),
    ("https://example.org/org/repo/tree/dev", "git/https%3A%2F%2Fexample.org%2Forg%2Frepo/dev"),
    ("https://mybinder.org/v2/gh/org/repo/a/b?labpath=c.ipynb", "gh/org/repo/a/b?labpath=c.ipynb"),
    ("https://mybinder.org/v2/gh/org/repo/v1?urlpath=rstudio%3Fa%3D1", "gh/org/repo/v1?urlpath=rstudio%3Fa%3D1"),
    ("https://mybinder.org/v2/gl/group%2Fproject/main", "gl/group%2Fproject/main"),
    ("https://mybinder.org/v2/git/https%3A%2F%2Fexample.org%2Fr/v1", "git/https%3A%2F%2Fexample.org%2Fr/v1"),
    ("https://mybinder.org/v2/zenodo/10.5281/zenodo.1/", "zenodo/10.5281/zenodo.1"),
    ("https://mybinder.org/v2/dataverse/10.7910/DVN/TJCLKP", "dataverse/10.7910/DVN/TJCLKP"),
    ("https://mybinder.org/v2/other/10.5281/zenodo.1/", ""),
    ("https://doi.org/10.5281/zenodo.1", "zenodo/10.5281/zenodo.1"),
    ("https://zenodo.org/records/1", "zenodo/1"),
    ("https://doi.org/10.7910/DVN/TJCLKP", "doi/10.7910/DVN/TJCLKP"),
    (
        "https://demo.ckan.org/dataset/x?activity_id=1",
        "ckan/https%3A%2F%2Fdemo.ckan.org%2Fdataset%2Fx%3Factivity_id%3D1",
    ),
    ("javascript:alert(1)", ""),
]
"""Addresses that people paste, and the launch link that the form makes of each; `links.py` has all of them."""


async def test_the_form_reads_any_pasted_address(web: WebApp, watch: Callable[..., Any]) -> None:
    url = web.start(SmallLaunch([]), providers=make_providers())
    seen = await watch()
    for typed, link in PASTED:
        await seen.page.goto(url)
        await seen.page.get_by_label("GitHub repository").fill(typed)
        await seen.page.keyboard.press("Tab")
        made = await seen.page.get_by_label("Link", exact=True).input_value()
        assert made == (f"{url}/v2/{link}" if link else ""), typed


async def test_the_form_works_with_the_keyboard_only(web: WebApp, watch: Callable[..., Any]) -> None:
    url = web.start(SmallLaunch(bad_events()))
    seen = await watch()
    await seen.page.goto(url)
    await seen.page.keyboard.press("Tab")
    await expect(seen.page.get_by_text("Skip to the content")).to_be_focused()
    for _ in range(30):
        await seen.page.keyboard.press("Tab")
        if await seen.page.evaluate("document.activeElement.name") == "repo":
            break
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert await seen.page.evaluate(outline) == "solid"
    await seen.page.keyboard.press("Enter")
    await expect(seen.page.get_by_role("alert")).to_have_text("Enter a repository first.")
    await seen.page.keyboard.type("https://example.org/sst")
    await seen.page.keyboard.press("Enter")
    await expect(seen.page).to_have_url(f"{url}/v2/git/https%3A%2F%2Fexample.org%2Fsst/HEAD")


async def test_copying_the_badge(web: WebApp, watch: Callable[..., Any]) -> None:
    seen = await watch(permissions=["clipboard-read", "clipboard-write"])
    await seen.page.goto(web.start(SmallLaunch([])))
    button = seen.page.get_by_role("button", name="Copy: Badge in Markdown")
    await expect(button).to_be_disabled()
    await seen.page.get_by_label("Git repository URL").fill("https://example.org/sst")
    await button.click()
    await expect(seen.page.locator("#copied")).to_have_text("Copied")
    assert (await seen.page.evaluate("navigator.clipboard.readText()")).startswith("[![Launch](")


async def test_a_launch_opens_the_server_without_its_token_in_the_url(web: WebApp, watch: Callable[..., Any]) -> None:
    url = web.start(SmallLaunch(good_events("/user/sst-abc/")), server(JupyterLike))
    seen = await watch()
    await seen.page.goto(f"{url}{LINK}?labpath=a%20b.ipynb")
    await expect(seen.page).to_have_url(f"{url}/user/sst-abc/lab/tree/a%20b.ipynb", timeout=20_000)
    await expect(seen.page.get_by_text("path: /user/sst-abc/lab/tree/a%20b.ipynb")).to_be_visible()
    assert not any("s3cret" in request for request in seen.requests)
    assert seen.stayed_at(url)


async def test_without_a_cookie_the_url_has_the_token(web: WebApp, watch: Callable[..., Any]) -> None:
    url = web.start(SmallLaunch(good_events("/user/sst-abc/")), server(WithoutCookies))
    seen = await watch()
    await seen.page.goto(f"{url}{LINK}?urlpath=lab%3Freset")
    await expect(seen.page).to_have_url(f"{url}/user/sst-abc/lab?reset=&token=s3cret", timeout=20_000)


async def test_a_server_at_another_origin(web: WebApp, watch: Callable[..., Any]) -> None:
    other = web.start(SmallLaunch([]), server(JupyterLike))
    url = web.start(SmallLaunch(good_events(f"{other}/user/sst-abc/")))
    seen = await watch()
    await seen.page.goto(url + LINK)
    await expect(seen.page).to_have_url(f"{other}/user/sst-abc/lab?token=s3cret", timeout=20_000)


@pytest.mark.parametrize(
    "path", ["//evil.example/", "../../hub/logout", "https://evil.example/", "%2e%2e/x", "\\..\\x"]
)
async def test_the_browser_stays_inside_the_server(web: WebApp, watch: Callable[..., Any], path: str) -> None:
    url = web.start(SmallLaunch([]))
    seen = await watch()
    await seen.page.goto(url)
    script = """async (path) => {
        const { inside, serverOf } = await import("/static/enter.js");
        return inside(serverOf("/user/x"), path).href;
    }"""
    assert (await seen.page.evaluate(script, path)).startswith(f"{url}/user/x/")


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd"])
async def test_a_servers_url_must_be_http(web: WebApp, watch: Callable[..., Any], address: str) -> None:
    url = web.start(SmallLaunch(good_events(address)))
    seen = await watch()
    await seen.page.goto(url + LINK)
    await expect(seen.page.get_by_text("The server's URL is not valid.")).to_be_visible()
    assert seen.page.url == url + LINK


async def test_phases_log_and_grant(web: WebApp, watch: Callable[..., Any]) -> None:
    url = web.start(waiting(*good_events("")[:-3]))
    seen = await watch()
    await seen.page.goto(url + LINK)
    current = seen.page.locator("[aria-current=step]")
    await expect(current).to_contain_text("Build, in progress")
    await expect(seen.page.get_by_role("listitem").first).to_contain_text("Resolve, done")
    await expect(seen.page).to_have_title("Building: sst | Pangeo Binder")
    assert "favicon-busy" in str(await seen.page.locator("link[rel=icon]").get_attribute("href"))
    grant = seen.page.get_by_role("region", name="What you get")
    for text in ("2 cores, 8 GiB", "up to 20 workers of 2 cores, 8 GiB", "50 GiB, kept 7 d", "15 min idle, or 8 h"):
        await expect(grant).to_contain_text(text)
    log = seen.page.get_by_role("region", name="Log of this launch")
    await expect(log).to_contain_text("Building line 30")
    await expect(log).to_be_visible()  # the status refers to it
    await log.focus()
    await expect(log).to_be_focused()
    assert seen.stayed_at(url)


async def hostile_preview(ref: RepoRef, path: str) -> str:
    """A preview that was not sanitised."""
    assert ref.url == "https://example.org/sst"
    if path != "a b.ipynb":
        raise NoPreview("There is no preview of this file.")
    return "<h1>The sea</h1><script>top.document.title = 'run'</script><img src='/badge.svg' onerror='alert(1)'>"


@pytest.mark.parametrize(("query", "shown"), [("?labpath=a%20b.ipynb", True), ("?labpath=c.ipynb", False), ("", False)])
async def test_a_build_shows_the_notebook_without_running_it(
    web: WebApp, watch: Callable[..., Any], query: str, shown: bool
) -> None:
    url = web.start(waiting(*good_events("")[:-3]), preview=hostile_preview)
    seen = await watch()
    await seen.page.goto(url + LINK + query)
    await expect(seen.page.get_by_role("region", name="Log of this launch")).to_contain_text("Building line 30")
    preview = seen.page.get_by_role("region", name="Preview of the notebook")
    if not shown:
        await seen.page.wait_for_timeout(500)
        await expect(preview).to_be_hidden()
        return
    frame = preview.frame_locator("iframe")
    await expect(frame.get_by_role("heading", name="The sea")).to_be_visible()
    assert await frame.locator("body").evaluate("(body) => getComputedStyle(body).padding") == "16px 20px"
    assert await frame.locator("img").evaluate("(image) => image.naturalWidth") == 0
    assert await seen.page.title() == "Building: sst | Pangeo Binder"
    blocked = [text for text in seen.messages if "violates the following Content Security Policy" in text]
    assert [text for text in blocked if "/badge.svg" in text and "img-src data:" in text]


async def test_shows_the_position_in_the_queue(web: WebApp, watch: Callable[..., Any]) -> None:
    seen = await watch()
    await seen.page.goto(web.start(waiting(Event(Phase.WAITING, "Full.\n", position=3))) + LINK)
    await expect(seen.page.get_by_role("status").first).to_have_text(
        "The service is full. You are number 3 in the queue."
    )


async def test_the_log_is_bounded_and_escaped(web: WebApp, watch: Callable[..., Any]) -> None:
    lines = [
        Event(Phase.BUILDING, f"\x1b[32mline {number}\x1b[0m <img src=x onerror=alert(1)>\n") for number in range(2500)
    ]
    url = web.start(waiting(*lines))
    seen = await watch()
    await seen.page.goto(url + LINK)
    await expect(seen.page.locator("#count")).to_have_text("2500 lines", timeout=20_000)
    rows = seen.page.locator("#log .lines > div")
    assert await rows.count() == 2000
    assert await rows.last.text_content() == "line 2499 <img src=x onerror=alert(1)>"
    assert seen.stayed_at(url)


async def test_a_failure_shows_its_reason_and_what_to_do(web: WebApp, watch: Callable[..., Any]) -> None:
    url = web.start(launch := SmallLaunch(bad_events()))
    seen = await watch(permissions=["clipboard-read", "clipboard-write"])
    await seen.page.goto(url + LINK)
    failure = seen.page.get_by_role("region", name="This launch failed")
    await expect(failure).to_be_focused()
    for text in ("numpy==99 does not exist", "Change requirements.txt.", "Building line 30"):
        await expect(failure).to_contain_text(text)
    await expect(seen.page.get_by_role("region", name="Log of this launch")).to_be_hidden()  # no line appears twice
    await expect(seen.page).to_have_title("Failed: sst | Pangeo Binder")
    await seen.page.get_by_role("button", name="Copy report").click()
    await expect(seen.page.locator("#reported")).to_have_text("Copied")
    report = await seen.page.evaluate("navigator.clipboard.readText()")
    assert "Reason: build_failed" in report and LINK in report and "build_token" not in report
    async with seen.page.expect_navigation():
        await seen.page.get_by_role("button", name="Try again").click()
    await expect(failure).to_be_focused()
    assert len(launch.clicks) == 2 and seen.stayed_at(url)


async def test_a_missing_branch_offers_the_default_branch(web: WebApp, watch: Callable[..., Any]) -> None:
    missing = RefNotFound("https://example.org/sst has no branch or tag `main`.", "Its branches are: dev.")
    launch = SmallLaunch([failed(missing)])
    url = web.start(launch, providers=(GitProvider(),))
    seen = await watch()
    await seen.page.goto(f"{url}{LINK}?urlpath=lab%2Ftree%2Fa%20b.ipynb")
    await seen.page.get_by_role("link", name="Launch the default branch").click()
    await expect(seen.page).to_have_url(f"{url}{LINK.replace('main', 'HEAD')}?urlpath=lab%2Ftree%2Fa%20b.ipynb")
    await expect(seen.page.get_by_role("region", name="This launch failed")).to_be_visible()
    await expect(seen.page.get_by_role("link", name="Launch the default branch")).to_have_count(0)
    assert seen.stayed_at(url)


async def test_a_reload_asks_only_if_its_page_was_not_answered(web: WebApp, watch: Callable[..., Any]) -> None:
    """A new visit by a link of another site asks again, also after the answer to an earlier one."""
    launch = waiting(Event(Phase.WAITING, "Looking up sst\n"))
    url = web.start(launch, ask_first=True, examples=())

    class Readme(RequestHandler):
        def get(self) -> None:
            self.finish(f"<link rel=icon href=data:,><a href={url}{LINK}>launch</a>")

    readme = web.start(SmallLaunch([]), more=[("/readme", Readme)]) + "/readme"
    seen = await watch()
    question = seen.page.get_by_role("heading", name="Launch this repository?")
    for visit in (1, 2):
        await seen.page.goto(readme)
        await seen.page.get_by_role("link", name="launch").click()
        await expect(question).to_be_visible()
        await seen.page.reload()
        await expect(question).to_be_visible()
        assert len(launch.clicks) == visit - 1
        await seen.page.get_by_role("button", name="Launch", exact=True).click()
        await expect(seen.page.get_by_role("status").first).to_contain_text("Looking up sst")
        await seen.page.reload()
        await expect(seen.page.get_by_role("status").first).to_contain_text("Looking up sst")
        assert await question.count() == 0 and len(launch.clicks) == visit


async def test_a_refusal_before_installing_shows_no_log_lines(web: WebApp, watch: Callable[..., Any]) -> None:
    refused = failed(BuildFailed("This binder does not build environment.yml.", "Use requirements.txt."))
    url = web.start(SmallLaunch([Event(Phase.FETCHING, "From https://example.org/sst\n"), refused]))
    seen = await watch()
    await seen.page.goto(url + LINK)
    failure = seen.page.get_by_role("region", name="This launch failed")
    await expect(failure).to_contain_text("Use requirements.txt.")
    assert "example.org" not in await failure.inner_text() and "Last lines" not in await failure.inner_text()
    await expect(seen.page.get_by_role("region", name="Log of this launch")).to_be_hidden()


@pytest.mark.parametrize(
    "typed", ["not a repo", "repo", "github.com/org/repo", "https://", "https://user:secret@example.org/a", "git@host"]
)
async def test_the_form_refuses_an_invalid_url(web: WebApp, watch: Callable[..., Any], typed: str) -> None:
    url = web.start(SmallLaunch([]), providers=(GitProvider(),))
    seen = await watch()
    await seen.page.goto(url)
    await seen.page.get_by_label("Git repository URL").fill(typed)
    await seen.page.get_by_role("button", name="Launch", exact=True).click()
    await expect(seen.page.get_by_role("alert")).to_have_text(
        f"This is not a valid repository. Enter, for example, {PLACEHOLDER}"
    )
    await expect(seen.page.get_by_label("Link", exact=True)).to_have_value("")
    assert seen.page.url == f"{url}/"


@pytest.mark.parametrize(
    "typed",
    ["https://example.org/a b", "git@example.org:org/repo", "ssh://git@example.org/a", "/srv/a", "file:///srv/a"],
)
async def test_the_form_accepts_the_urls_that_git_reads(web: WebApp, watch: Callable[..., Any], typed: str) -> None:
    url = web.start(SmallLaunch([]), providers=(GitProvider(allow_local=True),))
    seen = await watch()
    await seen.page.goto(url)
    await seen.page.get_by_label("Git repository URL").fill(typed)
    await expect(seen.page.get_by_label("Link", exact=True)).to_have_value(re.compile("/v2/git/"))


async def test_the_page_reconnects_a_broken_stream(web: WebApp, watch: Callable[..., Any]) -> None:
    launch = waiting(Event(Phase.BUILDING, "one\n"))
    url = web.start(launch)
    seen = await watch()
    await seen.page.goto(url + LINK)
    await expect(seen.page.locator("#count")).to_have_text("1 line")
    await web.servers[0].close_all_connections()
    await expect(seen.page.get_by_role("status").first).to_have_text("The connection was lost. Reconnecting.")
    await expect(seen.page.get_by_role("status").first).to_contain_text("Building", timeout=20_000)
    await expect(seen.page.locator("#count")).to_have_text("1 line")
    assert len(launch.clicks) == 2


async def test_the_page_of_a_service_that_restarts_continues(web: WebApp, watch: Callable[..., Any]) -> None:
    """It is refused with 503 while the service stops."""
    restarts, launch = [True], waiting(Event(Phase.BUILDING, "one\n"))
    url = web.start(launch, is_stopping=lambda: restarts[0])
    seen = await watch()
    await seen.page.goto(url + LINK)
    await expect(seen.page.get_by_role("status").first).to_have_text("The connection was lost. Reconnecting.")
    assert not launch.clicks
    restarts.clear()
    restarts.append(False)
    await expect(seen.page.get_by_role("status").first).to_contain_text("Building", timeout=20_000)


async def test_the_page_resumes_its_launch(web: WebApp, watch: Callable[..., Any]) -> None:
    launch = StepwiseLaunch()
    url = web.start(launch, more=server(JupyterLike), resume=ResumeLimits(grace_seconds=3600))
    seen = await watch()
    await seen.page.goto(url + LINK)
    await expect(seen.page.locator("#count")).to_have_text("1 line")
    await web.servers[0].close_all_connections()
    await expect(seen.page.get_by_role("status").first).to_have_text("The connection was lost. Reconnecting.")
    launch.go_on.set()
    await expect(seen.page).to_have_url(re.compile("/user/sst-abc/"), timeout=20_000)
    assert len(launch.clicks) == 1 and launch.delivered == [True]


async def test_closing_the_page_ends_its_launch(web: WebApp, watch: Callable[..., Any]) -> None:
    launch = StepwiseLaunch()
    url = web.start(launch, resume=ResumeLimits(grace_seconds=3600))
    seen = await watch()
    await seen.page.goto(url + LINK)
    await expect(seen.page.locator("#count")).to_have_text("1 line")
    await seen.page.goto(f"{url}/about")
    await asyncio.wait_for(launch.closed.wait(), 10)
    assert launch.delivered == [False]


async def test_an_ended_session_offers_its_link_again(web: WebApp, watch: Callable[..., Any]) -> None:
    url = web.start(SmallLaunch(good_events("/user/gone/")))
    seen = await watch()
    await seen.page.goto(url + LINK)
    await expect(seen.page.get_by_role("heading", name="This session has ended")).to_be_visible(timeout=20_000)
    again = seen.page.get_by_role("link", name="Launch again")
    await expect(again).to_have_attribute("href", url + LINK)


@pytest.mark.parametrize(
    "link", ["https://evil.example/v2/x", "javascript:alert(1)", "/user/other/x", "//evil.example"]
)
async def test_an_ended_session_ignores_foreign_links(web: WebApp, watch: Callable[..., Any], link: str) -> None:
    seen = await watch()
    url = web.start(SmallLaunch([]))
    await seen.page.goto(url)
    script = "(link) => localStorage.setItem('pangeo-binder-links', JSON.stringify([{server: '/user/x/', link}]))"
    await seen.page.evaluate(script, link)
    await seen.page.goto(f"{url}/user/x/lab")
    await seen.page.wait_for_load_state("networkidle")
    await expect(seen.page.get_by_text("Launch again")).to_be_hidden()


# the contrast of each visible text with its background, by the formula of WCAG 2.2
CONTRAST = """() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => rgba(colour).slice(0, 3)
    .map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (rgba(colour)[3] === 255) return colour;
    }
    return "white";
  };
  const texts = document.evaluate("//body//text()[normalize-space()]", document, null, 7);
  const poor = [];
  for (let index = 0; index < texts.snapshotLength; index += 1) {
    const element = texts.snapshotItem(index).parentElement;
    if (!element.checkVisibility() || element.closest("script, noscript, :disabled")) continue;
    const [one, two] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${element.textContent.trim()}`);
  }
  return poor;
}"""


@pytest.mark.parametrize(("scheme", "language"), [("light", "es"), ("dark", "en")])
async def test_pages_meet_wcag_as_axe_reads_it(
    web: WebApp, watch: Callable[..., Any], scheme: str, language: str
) -> None:
    url = web.start(SmallLaunch(bad_events()))
    seen = await watch(color_scheme=scheme, locale=language)
    for path in PAGES:
        await seen.page.goto(url + path)
        if path == LINK:
            await expect(seen.page.locator("#failure")).to_be_visible()
        found = await Axe().run(
            seen.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
        )
        assert found.response["passes"] and not found.response["violations"], found.generate_report()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_texts_have_enough_contrast_in_both_schemes(web: WebApp, watch: Callable[..., Any], scheme: str) -> None:
    url = web.start(SmallLaunch(bad_events()), notice="Closed on Monday.")
    seen = await watch(color_scheme=scheme)
    for path in PAGES:
        await seen.page.goto(url + path)
        if path == LINK:
            await expect(seen.page.get_by_text("This launch failed")).to_be_visible()
        assert await seen.page.evaluate(CONTRAST) == []
    ground = await seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(245, 248, 247)", "dark": "rgb(12, 26, 32)"}[scheme]


async def test_pages_fit_the_width_of_a_phone(web: WebApp, watch: Callable[..., Any]) -> None:
    url = web.start(SmallLaunch(bad_events()))
    seen = await watch(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    long = "/v2/git/https%3A%2F%2Fexample.org%2F" + "a" * 200 + "/" + "b" * 200
    refused = "/v2/git/refused/HEAD"  # its hint has a long URL
    for path in (*PAGES, long, refused):
        await seen.page.goto(url + path)
        await seen.page.wait_for_timeout(100)
        assert await seen.page.evaluate("document.documentElement.scrollWidth") == 360


async def test_motion_is_reduced_on_request(web: WebApp, watch: Callable[..., Any]) -> None:
    seen = await watch(reduced_motion="reduce")
    await seen.page.goto(web.start(waiting(Event(Phase.BUILDING, "one\n"))) + LINK)
    dot = seen.page.locator("[data-state=now] .dot")
    assert await dot.evaluate("(element) => getComputedStyle(element).animationName") == "none"
