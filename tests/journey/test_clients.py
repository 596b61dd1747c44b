"""BinderHub's clients against a running stack: its client for Node, its API example, thebe, and a badge to `gh`.

`gh` leads to a git server of the test. The stack has no token, because thebe cannot send one.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Page

from tests.repos.gitserver import GitHandler, serving
from tests.stack import npm
from tests.stack.browser import browser
from tests.stack.local import LocalStack, Session, until
from tests.stack.repository import repository

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

NOTEBOOK = "a b.ipynb"
FILES = {"requirements.txt": "", NOTEBOOK: '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'}
WAIT = "#!/bin/sh\necho waits\nuntil [ -e {} ]; do sleep 0.3; done\n"
POLICY = """
tiers:
  small:
    server: {{cpu: 1, memory: 1G, idle: 10m, max_age: 1h}}
    dask: none
    storage: none
rules:
  - {{repo: "git/{}/org/*", tier: small, servers: 1}}
  - {{repo: "*", tier: small}}
"""


class Gate:
    """A step that waits until the test lets it continue; others see it as a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened = threading.Event()

    def open(self) -> None:
        self.path.touch()
        self._opened.set()

    def wait(self) -> None:
        self._opened.wait(60)


class GatedGit(GitHandler):
    """Git server whose repository `org/slow` answers when its gate is open."""

    gate: Gate

    def do_GET(self) -> None:
        if "/org/slow/" in self.path:
            self.gate.wait()
        super().do_GET()


@pytest.fixture(scope="module")
def gates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Gate]:
    """What the launch of `org/slow` waits for, in its order."""
    folder = tmp_path_factory.mktemp("gates")
    return {name: Gate(folder / name) for name in ("resolve", "build", "start")}


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory, gates: dict[str, Gate]) -> Iterator[str]:
    """The address of a host with the repositories `org/sea` and `org/slow`."""
    root = tmp_path_factory.mktemp("github")
    scripts = {"postBuild": WAIT.format(gates["build"].path), "start": WAIT.format(gates["start"].path) + 'exec "$@"\n'}
    repository(root / "org" / "sea", FILES)
    repository(root / "org" / "slow", {**FILES, **scripts}, executable=tuple(scripts))
    GatedGit.gate = gates["resolve"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_PROJECT_ROOT", str(root))
        patch.setenv("GIT_HTTP_EXPORT_ALL", "1")
        with serving(ThreadingHTTPServer(("127.0.0.1", 0), GatedGit)) as url:
            yield f"{url}/git"
            for gate in gates.values():
                gate.open()


class Site(SimpleHTTPRequestHandler):
    """The pages of another site."""

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """The folder and the port of another site."""
    folder = tmp_path_factory.mktemp("site")
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=str(folder)))) as url:
        yield folder, int(url.rpartition(":")[2])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, github: str, site: tuple[Path, int]) -> Iterator[LocalStack]:
    """A stack for pages of `site` at its address 127.0.0.1, not at its name localhost."""
    folder = tmp_path_factory.mktemp("clients")
    (folder / "policy.yaml").write_text(POLICY.format(github))
    options = ("--no-token", "--allow-origin", f"http://127.0.0.1:{site[1]}", "--github", github)
    running = LocalStack(folder / "state", *options, "--policy", str(folder / "policy.yaml")).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


def test_binderhubs_own_client_launches(stack: LocalStack) -> None:
    events = npm.run_client(f"{stack.url}build/", "gh/org/sea/HEAD")
    phases = list(dict.fromkeys(event["phase"] for event in events))
    assert phases == ["waiting", "fetching", "building", "built", "launching", "ready"]
    session = Session(stack, events[-1])
    assert session.event["binder_request"] == "v2/gh/org/sea/HEAD"
    assert session.request("api/status").status == 200
    session.stop()


def test_binderhubs_own_client_builds_only_and_reads_refusals(stack: LocalStack) -> None:
    events = npm.run_client(f"{stack.url}build/", "gh/org/sea/HEAD", BUILD_ONLY="true")
    assert events[-1]["phase"] == "ready" and events[-1]["imageName"] and "url" not in events[-1]
    events = npm.run_client(f"{stack.url}build/", "gh/org/none/HEAD")
    assert events[-1]["phase"] == "failed" and events[-1]["reason"] == "repo_not_found"
    assert stack.servers() == {}


def build_binder(repo: str, binder_url: str) -> Iterator[dict[str, Any]]:
    """Yield events in the form of BinderHub's API example, examples/binder-api.py."""
    url = f"{binder_url}/build/gh/{repo}/HEAD"
    with requests.get(url, stream=True, headers={"Accept": "text/event-stream"}, timeout=280) as response:
        response.raise_for_status()
        for text in response.iter_lines(decode_unicode=True):
            if text.startswith("data:"):
                yield (event := json.loads(text.split(":", 1)[1]))
                if event["phase"] in ("ready", "failed"):
                    return


def test_a_script_as_in_binderhubs_api_example_launches(stack: LocalStack) -> None:
    *_, event = build_binder("org/sea", stack.url.rstrip("/"))
    session = Session(stack, event)
    page = requests.get(f"{event['url']}notebooks/{NOTEBOOK}?token={event['token']}", timeout=30)
    assert page.status_code == 200 and "jupyter" in page.text
    session.stop()


def thebe_page(stack: LocalStack, folder: Path) -> None:
    """Write a page with thebe and one cell into the `folder` of a site."""
    if not (folder / "thebe").exists():
        (folder / "thebe").symlink_to(npm.packages() / "thebe" / "lib")
    text = (npm.CLIENTS / "thebe.html").read_text().replace("{{ binder }}", stack.url.rstrip("/"))
    (folder / "index.html").write_text(text.replace("{{ repository }}", "org/sea"))


@pytest.mark.browser
def test_a_page_of_an_allowed_site_computes_with_thebe(
    stack: LocalStack, site: tuple[Path, int], chromium: Browser
) -> None:
    thebe_page(stack, site[0])
    page = chromium.new_page()
    page.goto(f"http://127.0.0.1:{site[1]}/")
    page.wait_for_function("window.thebe?.session?.kernel?.status === 'idle'", timeout=60_000)
    page.click(".thebe-run-button")
    page.wait_for_selector("text=answer 42 v2/gh/org/sea/HEAD", timeout=30_000)
    url, token = page.evaluate("[thebe.server.settings.baseUrl, thebe.server.settings.token]")
    page.close()
    Session(
        stack, {"url": f"{url.rstrip('/')}/", "token": token, "launch_id": url.rstrip("/").rpartition("-")[2]}
    ).stop()


@pytest.mark.browser
def test_a_page_of_another_site_gets_nothing(stack: LocalStack, site: tuple[Path, int], chromium: Browser) -> None:
    thebe_page(stack, site[0])
    page = chromium.new_page()
    with page.expect_console_message(lambda message: "blocked by CORS policy" in message.text, timeout=30_000):
        page.goto(f"http://localhost:{site[1]}/")
    read = f"fetch('{stack.url}api/repoproviders').then(() => 'read', () => 'refused')"
    assert page.evaluate(read) == "refused"
    page.goto(f"http://127.0.0.1:{site[1]}/thebe/")
    assert page.evaluate(read) == "read"
    page.close()
    assert stack.servers() == {}


def builds(stack: LocalStack) -> int:
    """Return how many builds have ended, by the binder's metrics."""
    return _total(stack, "pangeo_binder_builds_total")


def launches(stack: LocalStack) -> int:
    """Return how many launches have ended, by the binder's metrics."""
    return _total(stack, "pangeo_binder_launches_total")


def _total(stack: LocalStack, series: str) -> int:
    text = stack.page("metrics").body.decode()
    return int(sum(float(count) for count in re.findall(rf"^{series}\{{.*\}} (\S+)$", text, re.M)))


def reload(page: Page, shown: str) -> None:
    """Reload the page when it shows `shown`, and wait until it does so again."""
    page.wait_for_selector(shown, timeout=60_000)
    page.reload()
    page.wait_for_selector(shown, timeout=60_000)


@pytest.mark.browser
def test_a_reload_in_every_phase_continues_the_launch_of_a_badge(
    stack: LocalStack, gates: dict[str, Gate], chromium: Browser, tmp_path: Path
) -> None:
    """From a README to JupyterLab with the file open: one build, one session, and one question."""
    *_, event = build_binder("org/sea", stack.url.rstrip("/"))
    seat = Session(stack, event)
    before, launched = builds(stack), launches(stack)
    link = f"{stack.url}v2/gh/org/slow/HEAD?labpath=a%20b.ipynb"
    readme = tmp_path / "README.html"
    readme.write_text(f'<p><a href="{link}"><img src="{stack.url}badge_logo.svg" alt="launch"></a></p>')
    page = chromium.new_page()
    page.goto(readme.as_uri())
    page.click("a:has(img)")
    page.click("#go:enabled")
    reload(page, '#status:has-text("Looking up slow")')
    gates["resolve"].open()
    reload(page, '#status:has-text("You are number 1 in the queue")')
    seat.stop()
    reload(page, '#log:has-text("waits")')
    gates["build"].open()
    reload(page, '[data-phase="launch"][data-state="now"]')
    gates["start"].open()
    page.wait_for_url("**/lab/tree/a%20b.ipynb*", timeout=60_000)
    page.wait_for_selector(".jp-Notebook", timeout=60_000)
    assert page.locator("#ask").count() == 0 and (builds(stack), launches(stack)) == (before + 1, launched + 1)
    user = page.url.partition("/user/")[2].partition("/")[0]
    until("only the session of the page is left", lambda: list(stack.servers()) == [user])
    page.close()
