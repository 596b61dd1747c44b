"""The command `launch` against a binder's web interface: its output, the files it leaves, and cancelling it."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pangeo_binder.cli.launch import LaunchFailed, _addresses, _follow
from pangeo_binder.cli.reporef import with_token
from pangeo_binder.deploy.local.values import LocalValues, Secrets, choose_ports, write_values
from pangeo_binder.events import Event, Phase
from pangeo_binder.web.resume import ResumeLimits
from pangeo_binder.web.urlpath import BadPath
from tests.stack.local import COMMAND
from tests.web.webapp import SmallLaunch, WebApp, bad_events, good_events

LONG = "a line that is longer than eighty columns, " * 4 + "which must not be folded"
REPO = "https://example.org/sst"
BROWSER = """#!{python}
import pathlib, sys, urllib.request
file = pathlib.Path(urllib.request.url2pathname(sys.argv[1].removeprefix("file://")))
pathlib.Path({seen!r}).write_text(f"{{file.stat().st_mode:o}} {{file.read_text()}}")
"""


@pytest.fixture
async def web() -> AsyncIterator[WebApp]:
    running = WebApp()
    yield running
    for server in running.servers:
        server.stop()
        await server.close_all_connections()


async def started(hub: str, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
    # a test runner in the background may ignore Ctrl-C, and its child processes inherit that
    restore_sigint = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    command = (COMMAND, "launch", *(arguments or (REPO, "--hub", hub)))
    pipe, env = asyncio.subprocess.PIPE, {**os.environ, **environment}
    return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=env, preexec_fn=restore_sigint)


async def test_lines_are_not_folded_without_a_terminal(web: WebApp) -> None:
    process = await started(web.start(SmallLaunch([Event(Phase.BUILDING, f"{LONG}\n"), *bad_events()])))
    _, output = await process.communicate()
    lines = output.decode().splitlines()
    assert process.returncode == 1 and LONG in lines
    assert lines[-2:] == [bad_events()[-1].message.strip(), "Change requirements.txt."]


@pytest.mark.parametrize(
    ("phase", "hint"), [(Phase.BUILDING, "Its build continues"), (Phase.LAUNCHING, "If its server was starting")]
)
async def test_cancelling_a_launch_says_what_happens_to_it(web: WebApp, phase: Phase, hint: str) -> None:
    launch = SmallLaunch([Event(phase, "under way\n")], stays_seconds=3600)
    process = await started(web.start(launch, resume=ResumeLimits(grace_seconds=3600)))
    assert process.stderr is not None
    assert await process.stderr.readline() == b"under way\n"
    process.send_signal(signal.SIGINT)
    _, output = await process.communicate()
    assert process.returncode == 1
    assert output.decode().startswith(f"You cancelled this launch.\n{hint}")
    await asyncio.wait_for(launch.closed.wait(), 30)


class InterruptedConsole(Console):
    """Console at which the user presses Ctrl-C while a line is printed."""

    def print(self, *objects: Any, **options: Any) -> None:
        raise KeyboardInterrupt


async def test_cancelling_while_a_line_is_printed_ends_the_launch_too(web: WebApp) -> None:
    launch = SmallLaunch([Event(Phase.BUILDING, "under way\n")], stays_seconds=3600)
    stream = web.start(launch, resume=ResumeLimits(grace_seconds=3600)) + LINK.replace("/v2/", "/build/")
    with pytest.raises(LaunchFailed, match="You cancelled this launch") as caught:
        await asyncio.to_thread(_follow, InterruptedConsole(file=io.StringIO()), stream, "")
    assert caught.value.hint == "Its build continues; the next launch uses it."
    await asyncio.wait_for(launch.closed.wait(), 30)


LINK = "/v2/git/https%3A%2F%2Fexample.org%2Fsst/main"


@pytest.mark.parametrize(
    ("query", "opens"),
    [
        ("", "lab?token=T"),
        ("?labpath=dir%2Fa%20b.ipynb", "lab/tree/dir/a%20b.ipynb?token=T"),
        ("?filepath=index.ipynb", "lab/tree/index.ipynb?token=T"),
        ("?filepath=a.md&labpath=b.md&urlpath=%2Ftree", "tree?token=T"),
        ("?urlpath=lab%2Ftree%2Fa b.ipynb", "lab/tree/a%20b.ipynb?token=T"),
        ("?urlpath=git-pull%3Frepo%3Dx%26branch%3Dmain", "git-pull?repo=x&branch=main&token=T"),
        (
            "?urlpath=git-pull%3Frepo%3Dhttps%253A%252F%252Fa.example%252Fb",
            "git-pull?repo=https%3A%2F%2Fa.example%2Fb&token=T",
        ),
        ("?urlpath=lab%3Freset%23x", "lab?reset&token=T#x"),
        ("?urlpath=lab%3Ftoken%3Dold%26reset", "lab?reset&token=T"),
        ("?urlpath=lab%3F", "lab?token=T"),
        ("?labpath=a%3Fb%23c.ipynb#top", "lab/tree/a%3Fb%23c.ipynb?token=T"),
    ],
)
def test_a_link_opens_what_its_page_opens(query: str, opens: str) -> None:
    stream, path = _addresses(f"http://hub.example{LINK}{query}", "", "", "")
    assert stream == f"http://hub.example{LINK.replace('/v2/', '/build/')}"
    assert with_token(f"http://hub.example/user/a/{path}", "T") == f"http://hub.example/user/a/{opens}"


def test_the_option_urlpath_wins_and_stays_in_the_session() -> None:
    link = f"http://hub.example{LINK}?labpath=a.ipynb"
    assert _addresses(link, "", "", "/tree/b.ipynb")[1] == "tree/b.ipynb"
    assert _addresses(REPO, "", "http://hub.example", "tree")[1] == "tree"
    for path in ("//evil.example", "../../hub/logout"):
        for repo in (link, REPO):
            with pytest.raises(BadPath):
                _addresses(repo, "", "http://hub.example", path)
        with pytest.raises(BadPath):
            _addresses(f"http://hub.example{LINK}?urlpath={path}", "", "", "")


async def test_the_printed_address_opens_the_links_file(web: WebApp) -> None:
    hub = web.start(SmallLaunch(good_events("http://127.0.0.1:1/user/sst-abc/")))
    process = await started(hub, f"{hub}{LINK}?labpath=a.ipynb")
    output, errors = await process.communicate()
    assert output.decode() == "http://127.0.0.1:1/user/sst-abc/lab/tree/a.ipynb?token=s3cret\n", errors.decode()


def test_the_page_that_redirects_a_browser_is_private_and_removed(tmp_path: Path) -> None:
    seen, browser, pages = tmp_path / "seen", tmp_path / "browser", tmp_path / "pages"
    pages.mkdir()
    browser.write_text(BROWSER.format(python=sys.executable, seen=str(seen)))
    browser.chmod(0o755)
    code = (
        "from pangeo_binder.cli import launch\nlaunch._BROWSER_SECONDS = 0\n"
        "launch._open('http://127.0.0.1:1/lab?token=s3cret')"
    )
    environment = {**os.environ, "BROWSER": f"{browser} %s", "TMPDIR": str(pages)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    mode, _, page = seen.read_text().partition(" ")
    assert stat.S_IMODE(int(mode, 8)) == 0o600 and "lab?token=s3cret" in page
    assert not list(pages.iterdir())


def test_up_opens_the_browser_through_a_private_page(tmp_path: Path) -> None:
    seen, browser = tmp_path / "seen", tmp_path / "browser"
    browser.write_text(BROWSER.format(python=sys.executable, seen=str(seen)))
    browser.chmod(0o755)
    write_values(values := LocalValues(tmp_path / "state", choose_ports(1), Secrets()))
    code = "import sys\nfrom pangeo_binder.cli.up import open_browser\n"
    code += "from pangeo_binder.deploy.local.values import read_values\nopen_browser(read_values(sys.argv[1]))"
    environment = {**os.environ, "BROWSER": f"{browser} %s"}
    subprocess.run([sys.executable, "-c", code, str(values.state_dir)], env=environment, check=True)
    mode, _, page = seen.read_text().partition(" ")
    assert stat.S_IMODE(int(mode, 8)) == 0o600 and f"/?token={values.secrets.binder_token}" in page


class Guarded:
    """A binder that needs a token, and the state directory of its stack."""

    def __init__(self, web: WebApp, folder: Path) -> None:
        self.secrets = Secrets()
        self.launch = SmallLaunch(bad_events())
        self.hub = web.start(self.launch, login_token=self.secrets.binder_token)
        self.state_dir = folder / "state"
        self.write(int(self.hub.rpartition(":")[2]))

    def write(self, port: int) -> None:
        """Write the state directory of a stack with this secret at `port`."""
        write_values(LocalValues(self.state_dir, choose_ports(port), self.secrets))

    async def launches(self, *options: str, **environment: str) -> bool:
        """Run the command; return whether the binder accepted it, and check that it shows no token."""
        process = await started(self.hub, *options, **environment)
        _, output = await process.communicate()
        assert self.secrets.binder_token not in output.decode()
        assert self.launch.clicks or "Give the state directory of the running `up`" in output.decode()
        return bool(self.launch.clicks)


@pytest.fixture
def guarded(web: WebApp, tmp_path: Path) -> Guarded:
    return Guarded(web, tmp_path)


async def test_the_token_comes_from_the_state_directory(guarded: Guarded) -> None:
    assert await guarded.launches(REPO, "--state-dir", str(guarded.state_dir))


async def test_the_token_comes_from_the_printed_address_or_link(guarded: Guarded) -> None:
    query = f"?token={guarded.secrets.binder_token}"
    assert await guarded.launches(REPO, "--hub", f"{guarded.hub}/{query}")
    guarded.launch.clicks.clear()
    assert await guarded.launches(f"{guarded.hub}/v2/git/https%3A%2F%2Fexample.org%2Fsst/HEAD{query}")


async def test_the_token_of_the_environment_goes_only_to_a_named_binder(guarded: Guarded) -> None:
    token = {"PANGEO_BINDER_TOKEN": guarded.secrets.binder_token}
    assert not await guarded.launches(f"{guarded.hub}/v2/git/https%3A%2F%2Fexample.org%2Fsst/HEAD", **token)
    assert await guarded.launches(REPO, "--hub", guarded.hub, **token)


async def test_without_the_token_nothing_is_launched(guarded: Guarded) -> None:
    assert not await guarded.launches(REPO, "--hub", guarded.hub)


async def test_the_stacks_token_goes_to_no_other_address(guarded: Guarded) -> None:
    guarded.write(1)
    assert not await guarded.launches(REPO, "--hub", guarded.hub, "--state-dir", str(guarded.state_dir))
