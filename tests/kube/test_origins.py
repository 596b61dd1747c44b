"""In one browser, the page of session A attacks session B: with a host for each session, and with one host for all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser

from tests.stack.attacks import DONE, REFUSED, attack, sign_in
from tests.stack.browser import browser
from tests.stack.installed import PASSWORD, Installed, Launched
from tests.stack.local import request, until

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module", params=["installed_apart", "installed"], ids=["subdomains", "one-origin"])
def release(request: pytest.FixtureRequest) -> Installed:
    found: Installed = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def is_apart(release: Installed) -> bool:
    return release.release.name == "apart"


@pytest.fixture(scope="module")
def sessions(release: Installed, repository: str) -> Iterator[tuple[Launched, Launched]]:
    """The sessions A and B."""
    both = release.launch(repository), release.launch(repository)
    yield both
    both[0].stop()


@pytest.fixture(scope="module")
def chromium(release: Installed) -> Iterator[Browser]:
    address = release.cluster.address
    with browser(f"--host-resolver-rules=MAP binder.test {address},MAP *.binder.test {address}") as running:
        yield running


def test_each_session_has_the_host_it_should_have(
    release: Installed, is_apart: bool, sessions: tuple[Launched, Launched]
) -> None:
    hosts = [urlsplit(each.url).hostname for each in sessions]
    own = [f"{each.url.rstrip('/').rsplit('/', 1)[-1]}.binder.test" for each in sessions]
    assert hosts == (own if is_apart else [release.cluster.address] * 2)
    assert [each.request("api/status").status for each in sessions] == [200, 200]


def test_what_a_sessions_page_can_do_to_another_session(
    release: Installed, is_apart: bool, sessions: tuple[Launched, Launched], chromium: Browser
) -> None:
    one, other = sessions
    assert attack(chromium, one, other, release.url) == (REFUSED if is_apart else DONE)


def test_a_sessions_cookies_go_only_to_its_own_path(sessions: tuple[Launched, Launched], chromium: Browser) -> None:
    one = sessions[0]
    with chromium.new_context() as context:
        sign_in(context.new_page(), one)
        held = context.cookies()
    assert {each["name"] for each in held} > {"_xsrf"}
    assert {each["path"] for each in held} == {urlsplit(one.url).path}
    assert {each["domain"] for each in held} == {urlsplit(one.url).hostname}, "none is for the parent domain"


def test_a_session_can_set_cookies_for_the_parent_domain(
    release: Installed, is_apart: bool, sessions: tuple[Launched, Launched], chromium: Browser
) -> None:
    """As docs/security.md says: nothing of ours relies on a cookie that a session can set."""
    with chromium.new_context() as context:
        page = context.new_page()
        sign_in(page, sessions[0])
        domain = "; domain=binder.test" if is_apart else ""
        page.evaluate("(text) => { document.cookie = text; }", f"tossed=1; path=/{domain}")
        assert "tossed" in {each["name"] for each in context.cookies(release.url)}
        assert page.goto(release.url).headers.get("set-cookie") is None


def test_the_launch_page_opens_a_session_without_its_token_in_an_address(
    release: Installed, repository: str, chromium: Browser
) -> None:
    link = f"{release.url}v2/git/{quote(repository, safe='')}/HEAD?urlpath=lab%3Freset"
    with chromium.new_context() as context:
        page, seen = context.new_page(), []
        page.on("request", lambda sent: seen.append(sent.url))
        page.goto(link)
        page.wait_for_url("**/user/*/lab?reset*", timeout=240_000, wait_until="commit")
        assert page.evaluate("fetch(`${location.href.split('/lab')[0]}/api/status`).then((a) => a.status)") == 200
        assert not [url for url in seen if "token=" in url and "build_token=" not in url]
        shut = "fetch(`${location.href.split('/lab')[0]}/api/shutdown`, {method: 'POST', headers: {'X-XSRFToken': "
        page.evaluate(shut + "document.cookie.match(/_xsrf=([^;]+)/)[1]}}).then((a) => a.status)")


@pytest.mark.parametrize("release", ["installed_apart"], ids=["subdomains"], indirect=True)
def test_a_person_signs_in_and_has_sessions_of_her_own(release: Installed, repository: str, chromium: Browser) -> None:
    url = release.url
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{url}login")
        page.fill("#username_input", "ada")
        page.fill("#password_input", PASSWORD)
        page.click("#login_submit")
        page.wait_for_url(f"{url}**")
        page.goto(f"{url}v2/git/{quote(repository, safe='')}/HEAD")
        page.wait_for_url("**/user/ada/*/lab*", timeout=240_000, wait_until="commit")
        name = urlsplit(page.url).path.split("/")[3]
        assert urlsplit(page.url).hostname == f"{name}.binder.test"
        id_ = name.rpartition("-")[2]
        namespace = release.release.namespace(id_)
        pod = release.cluster.get("pod", f"server-{id_}", "-n", namespace)
        assert pod["metadata"]["annotations"]["pangeo-binder/server"] == f"ada/{name}"
        page.goto(f"{url}sessions")
        page.locator("[data-launch]").get_by_role("button", name="Stop").click()
        until("it has stopped", lambda: page.reload() and not page.locator("[data-launch]").count(), 90)


@pytest.mark.parametrize("release", ["installed_apart"], ids=["subdomains"], indirect=True)
def test_all_services_log_json(release: Installed, sessions: tuple[Launched, Launched]) -> None:
    read, namespace = release.cluster, ("-n", release.namespace)
    deployments = [each["metadata"]["name"] for each in read.get("deployments", *namespace)["items"]]
    (gateway,) = (name for name in deployments if name.startswith("api-"))
    (controller,) = (name for name in deployments if "controller" in name)
    named = {"binder": "binder", "hub": "hub", "storage": "storage", gateway: "gateway", controller: "dask-controller"}
    for deployment, service in named.items():
        logged = read.kubectl("logs", *namespace, f"deploy/{deployment}").splitlines()
        records = [json.loads(text) for text in logged]
        assert service in {record["service"] for record in records}, deployment
        if service in ("binder", "hub", "gateway"):
            assert {each.id for each in sessions} <= {record.get("launch_id") for record in records}, deployment


def test_hub_and_binder_do_not_answer_at_a_sessions_host(
    is_apart: bool, release: Installed, sessions: tuple[Launched, Launched], repository: str
) -> None:
    parts = urlsplit(sessions[0].url)
    for path in ("hub/health", "hub/api/", "", "about", f"v2/git/{quote(repository, safe='')}/HEAD"):
        there = request(f"{parts.scheme}://{parts.netloc}/{path}").status
        assert (there in (403, 404)) is is_apart, path
    assert request(f"{release.url}hub/health").status == 200


def test_the_address_of_an_ended_session_leads_to_the_binders_page(
    release: Installed, sessions: tuple[Launched, Launched]
) -> None:
    sessions[1].stop()
    until("it has ended", lambda: b"This session has ended" in request(f"{sessions[1].url}lab").body, 90)
