"""Logins on the whole local profile: a real OAuth provider, JupyterHub, a browser, and what attackers try.

One stack serves all tests of this module: it offers logins, and people without one launch as well.
"""

from __future__ import annotations

import re
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import APIResponse, Browser, BrowserContext, Locator, Page, expect

from pangeo_binder.web.resume import ResumeLimits
from tests.stack.browser import browser
from tests.stack.local import events_at, events_of, request, until
from tests.stack.login import LoginStack

pytestmark = [pytest.mark.browser, pytest.mark.stack, pytest.mark.timeout(300)]

LOGIN, NONCE = "pangeo-binder-login", "pangeo-binder-nonce"
CSRF = re.compile(r'name="csrf" value="([0-9a-f]{64})"')
FAR_MS = 60_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginStack]:
    running = LoginStack(tmp_path_factory.mktemp("login") / "state", "offered")
    running.start()
    shutil.copytree(running.state_dir / "examples" / "minimal", running.state_dir / "examples" / "closed")
    yield running
    running.stop()
    assert not running.processes(), "processes of the stack were left behind"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


NewContext = Callable[..., BrowserContext]


@pytest.fixture
def new_context(stack: LoginStack, chromium: Browser) -> Iterator[NewContext]:
    """Make a browser profile, signed in if it is somebody's."""
    made = []

    def make(name: str = "") -> BrowserContext:
        context = chromium.new_context()
        made.append(context)
        # JupyterLab's own code is not under test, and slow
        context.route("**/user/**/static/**", lambda route: route.abort())
        if name:
            page = context.new_page()
            page.goto(f"{stack.url}login")
            log_in(page, stack, name)
        return context

    yield make
    for context in made:
        context.close()


def log_in(page: Page, stack: LoginStack, name: str) -> None:
    """Log in at the provider, whose page is open."""
    assert page.url.startswith(stack.provider), page.url
    page.fill("[name=name]", name)
    page.fill("[name=password]", name)
    page.click("button")


def link_to(stack: LoginStack, example: str = "minimal", page: str = "v2") -> str:
    return f"{stack.url}{page}/git/{quote(stack.example(example), safe='')}/HEAD"


def cookie(context: BrowserContext, name: str = LOGIN) -> str:
    return next((each["value"] for each in context.cookies() if each["name"] == name), "")


def csrf(context: BrowserContext, stack: LoginStack) -> str:
    found = CSRF.search(context.request.get(f"{stack.url}about").text())
    assert found
    return found[1]


def who(context: BrowserContext, stack: LoginStack) -> str:
    """Return who is signed in, as a page shows it."""
    found = re.search(r"<span>(.*)</span>\s*<button[^>]*>Sign out", context.request.get(f"{stack.url}about").text())
    return found[1] if found else ""


def press(page: Page, button: Locator) -> None:
    """Send a form, and wait for the page that answers."""
    with page.expect_navigation():
        button.click()


def sessions(page: Page, stack: LoginStack) -> list[str]:
    page.goto(f"{stack.url}sessions")
    return [str(each.get_attribute("data-launch")) for each in page.locator("[data-launch]").all()]


def account(stack: LoginStack, name: str) -> int:
    return stack.hub("GET", f"/users/{name}", stack.values.secrets.status_token).status


def test_sign_in_for_more_launch_open_and_stop(stack: LoginStack, new_context: NewContext) -> None:
    """The whole way of a person: the offer, the provider, the same link again, one's own sessions."""
    context, seen = new_context(), []
    page = context.new_page()
    page.on("request", lambda sent: seen.append(sent.url))
    page.goto(link_to(stack, "closed"))
    expect(page.locator("#failure .sentence")).to_have_text("Only the staff may launch this.", timeout=FAR_MS)
    expect(page.locator("#sign-in")).to_be_visible()
    page.goto(f"{link_to(stack)}?urlpath=lab/tree/index.ipynb")
    page.locator("#sign-in a").click(timeout=FAR_MS)
    log_in(page, stack, "ada")
    page.wait_for_url("**/user/ada/minimal-*/lab/tree/index.ipynb", timeout=FAR_MS)
    server = page.url.partition("lab/tree")[0]
    assert page.evaluate("(url) => fetch(url).then((answer) => answer.status)", f"{server}api/status") == 200
    first = sessions(page, stack)
    assert len(first) == 1
    expect(page.get_by_text("1 of the 2 that you may have at a time")).to_be_visible()
    page.goto(link_to(stack))
    page.wait_for_url("**/user/ada/minimal-*/lab", timeout=FAR_MS)
    second = [each for each in sessions(page, stack) if each not in first]
    assert len(second) == 1
    page.goto(link_to(stack))
    expect(page.locator("#failure .sentence")).to_contain_text(
        "All 2 seats that you may have are taken.", timeout=FAR_MS
    )
    page.goto(f"{stack.url}sessions")
    press(page, page.locator(f"[data-launch={second[0]}]").get_by_role("button", name="Stop"))
    until("the second session is gone", lambda: sessions(page, stack) == first, 30)
    page.locator(f"[data-launch={first[0]}]").get_by_role("link", name="Open").click()
    page.wait_for_url(f"{server}lab", timeout=FAR_MS)
    page.goto(f"{stack.url}sessions")
    press(page, page.get_by_role("button", name="Stop"))
    until("no session is left", lambda: sessions(page, stack) == [], 30)
    assert account(stack, "ada") == 200
    assert not [url for url in seen if "token=" in url.replace("build_token=", "")], "a session's token in an address"


def grant_of(stack: LoginStack, **headers: str) -> str:
    """Return the tier of a launch, which ends once it is admitted."""
    return tier_of(events_of(stack.url, stack.example("minimal"), **headers))


def tier_of(launch: Iterator[dict[str, Any]]) -> str:
    """Return the tier of a launch, give the launch up, and return once it has ended."""
    tier = next(event["grant"]["tier"] for event in launch if "grant" in event)
    launch.close()  # type: ignore[attr-defined]
    time.sleep(ResumeLimits().closed_seconds + 2)
    return str(tier)


def refusal_of(stack: LoginStack, example: str, **headers: str) -> dict[str, Any]:
    return list(events_of(stack.url, stack.example(example), **headers))[-1]


def test_a_token_made_for_programs_launches_as_its_person(stack: LoginStack, new_context: NewContext) -> None:
    tokens = {}
    for name in ("ada", "eve", "bea"):
        context = new_context(name)
        context.request.get(f"{stack.url}hub/token")
        headers = {"X-XSRFToken": cookie(context, "_xsrf"), "Referer": f"{stack.url}hub/token"}
        made = context.request.post(f"{stack.url}hub/api/users/{name}/tokens", headers=headers, data={"note": "tests"})
        assert made.status == 201, made.text()
        tokens[name] = {"Authorization": f"token {made.json()['token']}"}
    assert grant_of(stack, **tokens["ada"]) == "large"
    assert grant_of(stack, **tokens["eve"]) == grant_of(stack) == "small"
    assert refusal_of(stack, "minimal", **tokens["bea"])["message"] == "Bea may launch nothing here.\n"
    denied = refusal_of(stack, "closed", **tokens["eve"])
    assert (denied["reason"], refusal_of(stack, "closed")["reason"]) == ("not_allowed", "login_needed")
    assert grant_of(stack, Authorization="token of-nobody") == "small"


def test_launched_code_launches_nothing_in_its_persons_name(stack: LoginStack, new_context: NewContext) -> None:
    page = new_context("ada").new_page()
    page.goto(link_to(stack))
    page.wait_for_url("**/user/ada/minimal-*/lab", timeout=FAR_MS)
    (id_,) = sessions(page, stack)
    own = next(each.environ()["JUPYTERHUB_API_TOKEN"] for each in stack.running("jupyter-lab", id_))
    assert grant_of(stack, Authorization=f"token {own}") == "small"
    assert request(f"{stack.url}sessions", Accept="application/json", Authorization=f"token {own}").status == 403


def test_another_persons_session_is_out_of_reach(stack: LoginStack, new_context: NewContext) -> None:
    ada, eve = new_context("ada"), new_context("eve")
    page = ada.new_page()
    known = sessions(page, stack)
    if not known:
        page.goto(link_to(stack))
        page.wait_for_url("**/user/ada/minimal-*/lab", timeout=FAR_MS)
        known = sessions(page, stack)
    page.locator("a", has_text="Open").first.click()
    page.wait_for_url("**/user/ada/minimal-*/lab", timeout=FAR_MS)
    server = page.url.removesuffix("lab")
    assert ada.request.get(f"{server}api/status").status == 200
    assert eve.request.get(f"{server}api/status").status == 403
    assert eve.request.get(f"{stack.url}sessions/{known[0]}").status == 404
    stop = f"{stack.url}sessions/{known[0]}/stop"
    assert eve.request.post(stop, form={"csrf": csrf(eve, stack)}).status == 404
    assert sessions(eve.new_page(), stack) == []
    assert sessions(page, stack) == known
    for method, path in (("DELETE", "/users/ada"), ("POST", "/users/ada/servers/x"), ("GET", "/users/ada")):
        answer = eve.request.fetch(f"{stack.url}hub/api{path}", method=method, headers={"X-XSRFToken": "x"})
        assert answer.status in (403, 404), (method, path)


def test_a_stolen_launch_link_starts_nothing_in_its_persons_name(stack: LoginStack, new_context: NewContext) -> None:
    ada, eve = new_context("ada"), new_context("eve")
    page = ada.request.get(link_to(stack)).text()
    stream = re.search(r'data-stream="([^"]+)"', page)
    assert stream
    token = parse_qs(urlsplit(stream[1]).query)["build_token"][0]
    name = {"Cookie": f"{LOGIN}={cookie(eve)}"}
    url = f"{link_to(stack, page='build')}?build_token={token}"
    assert _tier(url, Cookie=f"{LOGIN}={cookie(ada)}") == "large"
    assert _tier(url, **name) == _tier(url) == "small"
    # the cookie alone, which browsers also send for the page of a session of the same site
    ours = {"Cookie": f"{LOGIN}={cookie(ada)}"}
    assert _tier(link_to(stack, page="build"), **ours) == "small"
    # nor does the id of an event, with which the person's own page resumes the launch
    resumed = {"Last-Event-ID": _first_id(url, **ours)}
    assert _tier(url, **name, **resumed) == _tier(url, **resumed) == "small"
    assert _tier(url, **ours, **resumed) == "large"
    refused = _last(url, **ours, **{"Sec-Fetch-Site": "same-site"})
    assert refused["reason"] == "not_allowed"


def _tier(url: str, **headers: str) -> str:
    return tier_of(events_at(url, **headers))


def _first_id(url: str, **headers: str) -> str:
    """Return the id of a launch's first event, and lose the connection."""
    sent = urllib.request.Request(url, headers={"Accept": "text/event-stream", **headers})
    with urllib.request.urlopen(sent, timeout=60) as response:
        return next(text[3:].decode().strip() for text in response if text.startswith(b"id:"))


def _last(url: str, **headers: str) -> dict[str, Any]:
    return next(event for event in events_at(url, **headers) if event["phase"] in ("ready", "failed"))


@pytest.mark.parametrize("path", ["logout", "sessions/abcdefghijkl/stop"])
def test_a_form_of_another_page_is_refused(stack: LoginStack, new_context: NewContext, path: str) -> None:
    ada, eve = new_context("ada"), new_context("eve")
    url, form = f"{stack.url}{path}", {"csrf": csrf(ada, stack)}
    refused = [
        ada.request.post(url),
        ada.request.post(url, form={"csrf": "0" * 64}),
        ada.request.post(url, form={"csrf": csrf(eve, stack)}),
        ada.request.post(url, form=form, headers={"Origin": "https://evil.example"}),
        ada.request.post(url, form=form, headers={"Sec-Fetch-Site": "same-site"}),
        new_context().request.post(url, form=form),
        ada.request.get(url),
    ]
    assert {answer.status for answer in refused} <= {403, 404, 405}
    assert [answer.status for answer in refused[:6]] == [403] * 6
    assert who(ada, stack) == "ada"


def test_a_cookie_from_before_the_login_is_worth_nothing(stack: LoginStack, new_context: NewContext) -> None:
    eve, victim = new_context("eve"), new_context()
    planted = {"name": LOGIN, "value": cookie(eve), "url": stack.url}
    victim.add_cookies([planted])  # type: ignore[list-item]
    page = victim.new_page()
    page.goto(f"{stack.url}login")
    log_in(page, stack, "ada")
    assert (who(victim, stack), who(eve, stack)) == ("ada", "eve")
    assert cookie(victim) != cookie(eve)
    again = victim.new_page()
    before = cookie(victim)
    again.goto(f"{stack.url}login")
    assert cookie(victim) != before and who(victim, stack) == "ada"


def test_a_changed_cookie_is_nobodys(stack: LoginStack, new_context: NewContext) -> None:
    ada = new_context("ada")
    value = cookie(ada)
    (flags,) = [each for each in ada.cookies() if each["name"] == LOGIN]
    assert flags["httpOnly"] and flags["sameSite"] == "Lax"
    assert "ada" not in value and flags["expires"] > 0
    for place in (0, len(value) // 2, len(value) - 5):
        other = "A" if value[place] != "A" else "B"
        changed = {"name": LOGIN, "value": value[:place] + other + value[place + 1 :], "url": stack.url}
        ada.add_cookies([changed])  # type: ignore[list-item]
        assert who(ada, stack) == ""


@pytest.mark.parametrize("next_", ["https://evil.example/", "//evil.example", "/\\evil.example", "/%09/evil.example/"])
def test_a_login_ends_at_this_binder(stack: LoginStack, new_context: NewContext, next_: str) -> None:
    page = new_context("ada").new_page()
    page.goto(f"{stack.url}login?next={quote(next_)}")
    assert page.url.startswith(stack.url)


def _callback(context: BrowserContext, stack: LoginStack) -> str:
    """Return the address at which a login of `context`, which the hub knows, would end; do not open it."""
    url = f"{stack.url}login"
    for _ in range(5):
        answer: APIResponse = context.request.get(url, max_redirects=0)
        target = answer.headers["location"]
        url = target if target.startswith("http") else stack.url + target.lstrip("/")
        if "/oauth_callback?" in url and "/hub/" not in url:
            return url
    raise AssertionError(url)


def test_an_attackers_login_does_not_end_in_a_victims_browser(stack: LoginStack, new_context: NewContext) -> None:
    eve, victim = new_context("eve"), new_context()
    victim.request.get(f"{stack.url}login", max_redirects=0)
    assert cookie(victim, NONCE)
    for changed in (
        lambda url: url,
        lambda url: url.replace("state=", "state=x"),
        lambda url: url.partition("&state")[0],
    ):
        answer = victim.request.get(changed(_callback(eve, stack)))
        assert answer.status == 403 and who(victim, stack) == ""
    callback = _callback(eve, stack)
    assert eve.request.get(callback).status == 200
    assert eve.request.get(callback).status == 403, "a code works once"


def test_signing_out_ends_the_login_everywhere(stack: LoginStack, new_context: NewContext) -> None:
    eve = new_context("eve")
    page = eve.new_page()
    page.goto(f"{stack.url}about")
    stolen = cookie(eve)
    press(page, page.get_by_role("button", name="Sign out"))
    assert who(eve, stack) == ""
    eve.add_cookies([{"name": LOGIN, "value": stolen, "url": stack.url}])
    assert who(eve, stack) == ""


def test_a_login_name_of_an_anonymous_user_is_refused(stack: LoginStack, new_context: NewContext) -> None:
    context = new_context("anonymous-sea-abcdefghijkl")
    assert who(context, stack) == ""
    assert account(stack, "anonymous-sea-abcdefghijkl") == 404


def test_the_account_outlives_its_sessions(stack: LoginStack, new_context: NewContext) -> None:
    page = new_context("ada").new_page()
    for id_ in sessions(page, stack):
        page.goto(f"{stack.url}sessions")
        press(page, page.locator(f"[data-launch={id_}]").get_by_role("button", name="Stop"))
    until("no session is left", lambda: sessions(page, stack) == [], 30)
    assert account(stack, "ada") == 200


def test_the_log_shows_who_launched_and_no_secret(stack: LoginStack) -> None:
    assert re.search(r"Launch [a-z0-9]{12} of git/file:\S+/minimal for 'ada' gets the tier large", stack.log)
    assert "for 'somebody without a login' gets the tier small" in stack.log
    # JupyterHub logs the state of a login, which is of no use to other browsers, and the used code of a refused login
    assert (
        re.findall(r".{0,80}(?:(?<!3D)gAAAA|(?<!/hub/oauth_callback\?)\bcode=(?!\[secret\])).{0,40}", stack.log) == []
    )
    assert Path(stack.state_dir, "values.json").stat().st_mode & 0o77 == 0
