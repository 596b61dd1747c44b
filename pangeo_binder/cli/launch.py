"""The command `launch`: follows a launch in the terminal and prints or opens the server."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
import webbrowser
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UserError

if TYPE_CHECKING:
    import urllib.request

    from rich.console import Console

_PHASES = {"waiting": 5, "fetching": 15, "building": 40, "built": 70, "launching": 80, "ready": 100, "failed": 100}
_LINE_BYTES = 1 << 18
"""The maximum length of a line of the stream; a longer one is not an event."""
_LOGIN_HINT = "Give the state directory of the running `up` with --state-dir, or the address that it printed."
_BROWSER_SECONDS = 10
"""How long a browser has to start and to read the page that redirects it to the server."""

_ABANDON_SECONDS = 5


class LaunchFailed(UserError):
    """A failed launch, with the binder's message and hint."""

    reason = "launch_failed"


@click.command()
@click.argument("repo")
@click.option("--ref", default="", help="A branch, tag or commit.  [default: HEAD]")
@click.option("--hub", default="", help="The binder's address.  [default: the one running on this machine]")
@click.option("--urlpath", default="", help="What to open in the session, such as lab/tree/index.ipynb.")
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".state"),
    show_default=True,
    help="The state directory given to `up`, which has the address and the token of the binder on this machine.",
)
@click.option("--open/--no-open", "open_page", default=False, help="Open the server in a browser.")
def launch(repo: str, ref: str, hub: str, urlpath: str, state_dir: Path, open_page: bool) -> None:
    """Launch REPO, a repository's address or a launch link, and print the server's address.

    A launch link is launched at its own binder, or at the one given with --hub. An address may also be that of a file,
    a branch or a request on GitHub or GitLab, of a gist, or of a notebook on nbviewer.

    The printed address contains the server's token: anyone with the address can use your session. A binder with a
    token of its own takes it from the state directory, from the given address (`?token=`), or with --hub from the
    variable PANGEO_BINDER_TOKEN.

    \b
    Examples:
      pangeo-binder launch https://github.com/org/repository --ref main
      pangeo-binder launch http://127.0.0.1:8585/v2/git/https%3A%2F%2Fgithub.com%2Forg%2Frepository/HEAD --open
    """
    from .reporef import local_hub, with_token
    from .terminal import make_console

    console = make_console(stderr=True)
    if not hub and not _is_link(repo):
        hub = local_hub(state_dir)
    stream, path = _addresses(repo, ref, hub, urlpath)
    ready = _follow(console, stream, _token(repo, hub, stream, state_dir))
    address = with_token(f"{ready['url']}{path}", ready["token"])
    click.echo(address)
    if open_page:
        _open(address)


def _is_link(repo: str) -> bool:
    """Return whether `repo` is a launch link and not a repository's address."""
    return repo.startswith(("http://", "https://")) and "/v2/" in repo.partition("#")[0].partition("?")[0]


def _token(repo: str, hub: str, stream: str, state_dir: Path) -> str:
    """Return the token for the binder at `stream`; empty if none is known for it.

    The environment's token goes only to the binder that --hub names, never to one in a link, which a stranger may have
    made.
    """
    from urllib.parse import parse_qs, urlsplit

    from .reporef import login_token

    at_link = _is_link(repo) and not hub
    given = repo if at_link else hub
    in_address = parse_qs(urlsplit(given).query).get("token", [""])[-1]
    from_environment = "" if at_link else os.environ.get("PANGEO_BINDER_TOKEN", "")
    return in_address or login_token(stream, state_dir) or from_environment


def _addresses(repo: str, ref: str, hub: str, urlpath: str) -> tuple[str, str]:
    """Return the event stream's address and what to open in the session."""
    from ..web.urlpath import paths_in, urlpath_of
    from .reporef import build_link, check_hub, read_repo

    address, _, query = repo.partition("#")[0].partition("?")
    if _is_link(repo) and not (hub or ref):
        base, _, spec = address.partition("/v2/")
        path = urlpath_of(urlpath, "", "") if urlpath else urlpath_of(*paths_in(query))
        return f"{check_hub(base)}/build/{spec}", path
    base = hub or address.partition("/v2/")[0]
    named = read_repo(repo, ref)
    return build_link(check_hub(base), named.repo), urlpath_of(urlpath or named.urlpath, named.labpath, "")


def _follow(console: Console, stream: str, token: str) -> dict[str, Any]:
    """Show a progress bar and the log until the launch is ready; return its last event. Raises LaunchFailed."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<12}"), BarColumn(), TimeElapsedColumn())
    phase = "waiting"
    # without a terminal a bar would be drawn as an empty line
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(phase, total=100)
        try:
            # closed here: Ctrl-C may arrive while an event is printed, and then nothing else abandons the launch
            with contextlib.closing(_events(stream, token)) as events:
                for event in events:
                    phase = event["phase"]
                    progress.update(bar, description=phase, completed=_PHASES.get(phase, 0))
                    if phase == "ready":
                        return event
                    _print_event(progress.console, event)
        except KeyboardInterrupt:
            raise _interrupted(phase) from None
    raise LaunchFailed("The binder closed the connection before the launch was ready.", "Try again.")


def _print_event(console: Console, event: dict[str, Any]) -> None:
    """Print an event's message. Raises LaunchFailed if the event is a failure."""
    message = str(event.get("message", "")).rstrip()
    if event["phase"] == "failed":
        hint, reason = str(event.get("hint", "")), event.get("reason")
        if reason == "ref_not_found":
            hint = f"{hint} Or launch its default branch with --ref HEAD.".strip()
        raise LaunchFailed(message, _LOGIN_HINT if reason == "login_required" else hint)
    if message:
        console.print(message, markup=False, highlight=False)


def _interrupted(phase: str) -> LaunchFailed:
    """Return the error for a launch that the user interrupted in `phase`; its hint says what happens to the launch."""
    if phase in ("fetching", "building"):
        return LaunchFailed("You cancelled this launch.", "Its build continues; the next launch uses it.")
    return LaunchFailed("You cancelled this launch.", "If its server was starting, it is stopped.")


def _events(stream: str, token: str) -> Generator[dict[str, Any], None, None]:
    import http.client
    import urllib.error
    import urllib.request

    last, ended, event = "", False, None
    try:
        request = _request(stream, token, Accept="text/event-stream")
        with urllib.request.urlopen(request, timeout=120) as response:  # noqa: S310 (the user's own address)
            while line := response.readline(_LINE_BYTES):
                if line.startswith(b"id:"):
                    last = line[3:].decode("ascii", "replace").strip()
                if line.startswith(b"data:"):
                    event = _event(line)
                if event and not line.strip():  # the end of an event, whose id follows its data
                    ended = event["phase"] in ("ready", "failed")
                    yield event
                    event = None
    except urllib.error.HTTPError as error:
        raise LaunchFailed(
            f"The binder answered with status {error.code}.", "Check the address given with --hub."
        ) from None
    except (OSError, ValueError, http.client.HTTPException):
        raise LaunchFailed("The binder cannot be reached.", "Is it running? Start one with: pangeo-binder up") from None
    finally:
        if last and not ended:
            _abandon(_request(stream, token, **{"Last-Event-ID": last}))


def _request(stream: str, token: str, **headers: str) -> urllib.request.Request:
    import urllib.request

    request = urllib.request.Request(stream, headers=headers)  # noqa: S310
    if token:
        request.add_unredirected_header("Authorization", f"token {token}")
    return request


def _abandon(request: urllib.request.Request) -> None:
    """End the launch now; without this the binder waits for its client to come back."""
    import http.client
    import urllib.request

    request.method = "DELETE"
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
        urllib.request.urlopen(request, timeout=_ABANDON_SECONDS).close()  # noqa: S310


def _event(line: bytes) -> dict[str, Any]:
    """Return the event in a line of a binder's stream. Raises LaunchFailed for anything else."""
    try:
        event = json.loads(line[5:])
    except (ValueError, RecursionError):
        event = None
    has_fields = isinstance(event, dict) and isinstance(event.get("phase"), str)
    if not has_fields or (event["phase"] == "ready" and not {"url", "token"} <= event.keys()):
        raise LaunchFailed("The server at this address is not a binder.", "Check the address given with --hub.")
    return dict(event)


def _open(address: str) -> None:
    """Open the address through a private file, because every user of a machine can read a browser's command line.

    The file holds the token, so it is removed after `_BROWSER_SECONDS`: browsers do not report that they have read it.
    """
    from .terminal import redirect_page

    descriptor, name = tempfile.mkstemp(suffix=".html")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(redirect_page(address))
        if webbrowser.open(Path(name).as_uri()):
            time.sleep(_BROWSER_SECONDS)
    except KeyboardInterrupt:
        pass  # the address is printed already, so there is nothing left to cancel
    finally:
        Path(name).unlink(missing_ok=True)
