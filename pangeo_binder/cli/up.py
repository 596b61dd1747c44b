"""The command `up`: runs everything on this machine, in one process tree, until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..hosts import HOSTS
from ..repos.hosted import HostedAt
from .terminal import make_console, status_line

if TYPE_CHECKING:
    from rich.console import Console

    from ..deploy.local.stack import Stack
    from ..deploy.local.values import LocalValues

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SERVICES = ("hub", "storage", "gateway", "binder")
_ORIGIN = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")
"""An origin as browsers send it: https://www.rfc-editor.org/rfc/rfc6454#section-6.2"""


def _check_origins(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the origins as browsers send them. Raises BadParameter for anything else."""
    origins = tuple(origin.lower().removesuffix("/") for origin in given)
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise click.BadParameter(f"`{origin}` is not an origin such as https://example.org, without a path.")
    return origins


def _check_host(context: click.Context, option: click.Parameter, given: str) -> str:
    """Return the address of a host of repositories. Raises BadParameter if it is not one."""
    try:
        return HostedAt(given).address
    except ValueError:
        raise click.BadParameter("It is not an address such as https://github.example.org.") from None


def _check_private(
    context: click.Context, option: click.Parameter, given: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """Return the patterns of repositories with their files. Raises BadParameter for a pattern that is not one."""
    from ..repos.private import share_private

    try:
        share_private(dict(given))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return given


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="The public port.  [default: 8585, or a free one]")
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".state"),
    show_default=True,
    help="The directory for environments, scratch storage, logs and everything else.",
)
@click.option("--policy", type=click.Path(dir_okay=False, path_type=Path), help="A policy file of your own.")
@click.option(
    "--queue-seconds",
    "--line-seconds",  # its name in version 0.1
    "queue_seconds",
    type=click.IntRange(min=0),
    default=300,
    show_default=True,
    help="How long a launch waits in the queue when all seats are taken; 0 refuses at once.",
)
@click.option(
    "--build-seconds",
    type=click.IntRange(min=1),
    default=1800,
    show_default=True,
    help="How long one build may take.",
)
@click.option("--builds", type=click.IntRange(min=1), default=2, show_default=True, help="How many builds run at once.")
@click.option(
    "--build-grace-seconds",
    type=click.IntRange(min=0),
    default=60,
    show_default=True,
    help="How long a build runs on that nobody waits for any more.",
)
@click.option(
    "--allow-origin",
    "allow_origins",
    metavar="ORIGIN",
    multiple=True,
    callback=_check_origins,
    help="A site, such as https://example.org, whose pages may launch and use sessions (thebe); repeatable. Its pages"
    " can then run code as you.",
)
@click.option(
    "--token/--no-token",
    default=True,
    show_default=True,
    help="Whether the binder needs the token in the printed address. Without it, all users of this machine can launch.",
)
@click.option(
    "--github",
    metavar="ADDRESS",
    default=HOSTS["gh"].url,
    show_default=True,
    callback=_check_host,
    help="Where `gh` links lead, such as a GitHub Enterprise.",
)
@click.option(
    "--gitlab",
    metavar="ADDRESS",
    default=HOSTS["gl"].url,
    show_default=True,
    callback=_check_host,
    help="Where `gl` links lead, such as a GitLab of your own.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="The format of the services' log: text, or a JSON object for each record.",
)
@click.option(
    "--share-private",
    "private",
    metavar="PATTERN TOKEN_FILE",
    type=(str, click.Path(exists=True, dir_okay=False, resolve_path=True)),
    multiple=True,
    callback=_check_private,
    help="Private repositories, such as `gh/org/*`, that git reads with the token in a file; repeatable. Everyone who"
    " may launch them here can read them.",
)
@click.option("--open/--no-open", "open_page", default=True, help="Open the start page in a browser when ready.")
def up(port: int | None, state_dir: Path, policy: Path | None, open_page: bool, **options: Any) -> None:
    """Start everything on this machine; stop it with Ctrl-C.

    JupyterHub, the binder, dask-gateway and the storage service listen only on 127.0.0.1 and keep everything in one
    directory. Launched code runs as you, so use this only on your own machine.

    \b
    Examples:
      pangeo-binder up
      pangeo-binder up --port 9000 --state-dir /data/binder --no-open
    """
    from ..deploy.local.stack import Stack
    from ..deploy.local.values import LocalOptions
    from ..policy.load import load_policy

    console = make_console()
    # also SIGINT: a process that a shell starts in the background ignores it by default
    for number in _STOP_SIGNALS:
        signal.signal(number, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup` ignores it
        signal.signal(signal.SIGHUP, _interrupt)
    if policy is not None:
        load_policy(policy)
        policy = policy.resolve()
    stack = Stack(state_dir.resolve(), policy, LocalOptions(**options))
    try:
        _start(stack, console, port)
        if open_page and sys.stdout.isatty():
            open_browser(stack.values)
        for message in stack.watch():
            console.print(f"[yellow]{message}[/]")
    except KeyboardInterrupt:
        _say(console, "\nStopping sessions, clusters and services …")
    finally:
        # a second Ctrl-C must not interrupt the stop
        for number in (*_STOP_SIGNALS, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        stack.stop()
    _say(console, f"Stopped. Environments, scratch and logs are kept in {stack.state_dir}.")


def open_browser(values: LocalValues) -> None:
    """Open the start page through a private file, because every user of a machine can read a browser's command line."""
    from .terminal import redirect_page

    path = values.folder("run") / "open.html"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
        file.write(redirect_page(values.address))
    webbrowser.open(path.as_uri())


def _say(console: Console, text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be closed
        console.print(text)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _start(stack: Stack, console: Console, port: int | None) -> None:
    left = stack.prepare(port)
    if left:
        console.print(f"Ended {left} process{'es' if left != 1 else ''} left by an earlier run.")
    console.print(f"Processes of a session are found by {stack.found_by}.")
    stack.start()
    started: set[str] = set()
    with status_line(console, "Starting …") as show:
        for answering in stack.wait_until_ready():
            for service in (service for service in _SERVICES if service in answering - started):
                console.print(f"Started: {service}")
            started |= answering
            missing = [service for service in _SERVICES if service not in answering]
            show(f"Starting … waiting for {', '.join(missing) or 'the last checks'}")
    _print_addresses(stack, console)


def _print_addresses(stack: Stack, console: Console) -> None:
    """Print the address, the example links, a badge, the state directory and the log, each on one line."""
    from ..deploy.local.examples import example_repositories
    from .reporef import badge_text, link, parse_repo

    values, url = stack.values, stack.values.public_url
    examples = example_repositories(stack.values.folder("examples"))
    links = [link(url, parse_repo(found.url, "HEAD"), found.urlpath) for found in examples]
    rows = [
        ("Address", values.address),
        *(
            (f"Example: {found.title}", values.with_token(target))
            for found, target in zip(examples, links, strict=True)
        ),
        ("Badge", badge_text(url, links[0], "markdown")),
        ("State", str(stack.state_dir)),
        ("Log", str(stack.log_file)),
    ]
    for name, value in rows:
        # never fold or truncate: users copy these lines
        console.print(f"{name:<20} {value}", markup=False, highlight=False, soft_wrap=True)
    if values.binder_token:
        console.print("Keep the address to yourself: with its token, others on this machine can run code as you.")
    console.print("The binder builds the first example in the background. Ctrl-C stops everything.")
