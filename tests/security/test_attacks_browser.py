"""Attacks by other sites' pages in the browser of a stack's user: they can only open a launch page that asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.security.stream import last_event
from tests.stack.browser import browser
from tests.stack.local import LocalStack
from tests.stack.repository import repository

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

EVENTS = "text/event-stream"


class Quiet(SimpleHTTPRequestHandler):
    """A file server without log lines."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """Another web site on this machine: its folder and its port."""
    folder = tmp_path_factory.mktemp("evil")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield folder, site.server_port
        site.shutdown()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


def spec(stack: LocalStack) -> str:
    return f"git/{quote(stack.example('minimal'), safe='')}/HEAD"


def started(stack: LocalStack) -> float:
    """Return how many launches have started, with any result."""
    lines = stack.page("metrics").body.decode().splitlines()
    names = ("pangeo_binder_launches_total{", "pangeo_binder_launches_in_progress")
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(names))


def failure_of(stack: LocalStack, **headers: str) -> str:
    """Launch a repository that does not exist, and return the failure message."""
    url = f"{stack.url}build/git/{quote((stack.state_dir / 'nothing').as_uri(), safe='')}/HEAD"
    return str(last_event(url, **stack.login, **headers)["message"])


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.", "[::2]"]
)
def test_another_host_name_is_refused(stack: LocalStack, host: str) -> None:
    """DNS rebinding: the browser treats such a page as ours, so no other check would stop it."""
    host, before = host.format(port=stack.port), started(stack)
    for path in ("", f"v2/{spec(stack)}", "metrics", "static/launch.js"):
        assert stack.page(path, Host=host).status == 403, path
    event = last_event(f"{stack.url}build/{spec(stack)}", Host=host, **stack.login)
    assert event["message"].startswith("This service does not allow requests to this host name") and "url" not in event
    assert started(stack) == before


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LocalHost:{port}", "localhost", "[::1]:1"])
def test_this_machines_host_names_are_accepted(stack: LocalStack, host: str) -> None:
    assert stack.page("", Host=host.format(port=stack.port)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
)
def test_another_sites_page_may_not_launch(stack: LocalStack, headers: dict[str, str]) -> None:
    assert "does not allow launches from pages of other sites" in failure_of(stack, **headers)


def test_our_own_page_may_launch(stack: LocalStack) -> None:
    own = {"Sec_Fetch_Site": "same-origin", "Origin": stack.url.rstrip("/")}
    assert "There is no git repository" in failure_of(stack, **own)


@pytest.mark.browser
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_no_page_can_launch_without_the_user(
    stack: LocalStack, chromium: Browser, evil: tuple[Path, int], name: str
) -> None:
    folder, port = evil
    build, page_url = f"{stack.url}build/{spec(stack)}", f"{stack.url}v2/{spec(stack)}"
    (folder / "silent.html").write_text(
        f"""<iframe src="{page_url}"></iframe><img src="{build}"><script src="{build}"></script><script>
        new EventSource({build!r});
        const tries = ["no-cors", "cors"].map(mode => fetch({build!r}, {{mode, headers: {{Accept: "{EVENTS}"}}}}));
        Promise.allSettled(tries).then(() => setTimeout(() => document.title = "tried", 1000));
        </script>"""
    )
    before, page = started(stack), chromium.new_page()
    page.goto(stack.address)
    page.goto(f"http://{name}:{port}/silent.html")
    page.wait_for_function("document.title == 'tried'", timeout=90_000)
    page.close()
    assert started(stack) == before


@pytest.mark.browser
def test_a_link_from_another_page_asks_first(
    stack: LocalStack, chromium: Browser, evil: tuple[Path, int], tmp_path: Path
) -> None:
    folder, port = evil
    strange = repository(tmp_path / "strange", {"requirements.txt": "", "README.md": "Not one of the examples"})
    link = f"{stack.url}v2/git/{quote(strange, safe='')}/HEAD"
    (folder / "away.html").write_text(f"<script>location = {link!r}</script>")
    before, page = started(stack), chromium.new_page()
    page.goto(stack.address)
    page.goto(f"http://localhost:{port}/away.html")
    page.wait_for_url(link)
    expect(page.get_by_role("button", name="Launch")).to_be_disabled()
    page.wait_for_timeout(2000)
    assert started(stack) == before
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url("**/user/**", timeout=120_000)
    assert started(stack) == before + 1
    page.close()


@pytest.mark.browser
def test_a_typed_address_launches_without_asking(stack: LocalStack, chromium: Browser) -> None:
    page = chromium.new_page()
    page.goto(stack.address)
    page.goto(f"{stack.url}v2/git/{quote((stack.state_dir / 'nothing').as_uri(), safe='')}/HEAD")
    expect(page.locator("#failure")).to_be_visible(timeout=30_000)
    assert page.locator("#ask").count() == 0
    page.close()
