"""The command `launch`: follows a launch in the terminal and prints or opens the server."""

from __future__ import annotations

import json
import os
import tempfile
import webbrowser
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

_PHASES = {"waiting": 5, "fetching": 15, "building": 40, "built": 70, "launching": 80, "ready": 100, "failed": 100}


class LaunchFailed(UserError):
    """The binder said that the launch failed; its own sentence and hint."""

    reason = "launch_failed"


@click.command()
@click.argument("repo")
@click.option("--ref", default="", help="A branch, tag or commit.  [default: HEAD]")
@click.option("--hub", default="", help="The binder's address.  [default: the one running on this machine]")
@click.option("--urlpath", default="", help="What to open in the session, such as lab/tree/index.ipynb.")
@click.option("--open/--no-open", "open_page", default=False, help="Open the server in a browser.")
def launch(repo: str, ref: str, hub: str, urlpath: str, open_page: bool) -> None:
    """Launch REPO, a repository's address or a launch link, and print the server's address.

    The printed address holds the server's token: whoever has it has your session.

    \b
    Examples:
      pangeo-binder launch https://github.com/org/repository --ref main
      pangeo-binder launch http://127.0.0.1:8585/v2/git/https%3A%2F%2Fgithub.com%2Forg%2Frepository/HEAD --open
    """
    from rich.console import Console

    console = Console(stderr=True)
    stream, path = _addresses(repo, ref, hub, urlpath)
    ready = _follow(console, stream)
    address = f"{ready['url']}{path or 'lab'}?token={ready['token']}"
    click.echo(address)
    if open_page:
        _open(address)


def _addresses(repo: str, ref: str, hub: str, urlpath: str) -> tuple[str, str]:
    """Return the event stream's address and what to open in the session."""
    from urllib.parse import parse_qs, urlsplit

    from .reporef import build_link, local_hub, parse_repo

    parts = urlsplit(repo)
    base, found, spec = parts.path.partition("/v2/")
    if found:
        path = urlpath or parse_qs(parts.query).get("urlpath", [""])[0]
        return f"{parts.scheme}://{parts.netloc}{base}/build/{spec}", path.lstrip("/")
    return build_link(hub or local_hub(), parse_repo(repo, ref)), urlpath.lstrip("/")


def _follow(console: Console, stream: str) -> dict[str, Any]:
    """Show a bar and the log until the launch is ready, and return its last event. Raises LaunchFailed."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<12}"), BarColumn(), TimeElapsedColumn())
    # without a terminal a bar would be drawn as an empty line
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("waiting", total=100)
        for event in _events(stream):
            progress.update(bar, description=event["phase"], completed=_PHASES.get(event["phase"], 0))
            if event["phase"] == "ready":
                return event
            message = str(event.get("message", "")).rstrip()
            if event["phase"] == "failed":
                raise LaunchFailed(message, str(event.get("hint", "")))
            if message:
                progress.console.print(message, markup=False, highlight=False)
    raise LaunchFailed("The binder ended the launch without a word.", "Try again.")


def _events(stream: str) -> Iterator[dict[str, Any]]:
    import urllib.error
    import urllib.request

    request = urllib.request.Request(stream, headers={"Accept": "text/event-stream"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=120) as response:  # noqa: S310 (the person's own address)
            for line in response:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])
    except urllib.error.HTTPError as error:
        raise LaunchFailed(f"The binder answered {error.code}.", "Check the address given with --hub.") from None
    except (OSError, ValueError):
        raise LaunchFailed("The binder cannot be reached.", "Is it running? Start one with: pangeo-binder up") from None


def _open(address: str) -> None:
    """Open the address by way of a private file: a browser's command line is for all users of a machine to read."""
    descriptor, name = tempfile.mkstemp(suffix=".html")
    with os.fdopen(descriptor, "w") as file:
        file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={escape(address)}">')
    webbrowser.open(Path(name).as_uri())
