"""The command line. Each command has its own file, imported only when it runs, so that `--help` is fast."""

from __future__ import annotations

import importlib
import sys

import click

from .. import __version__
from ..errors import UserError

_COMMANDS = {
    "up": "Start everything on this machine.",
    "launch": "Launch a repository and print or open its server.",
    "badge": "Print a launch badge for a README.",
    "check": "Check a policy file: all problems at once.",
    "explain": "Explain what the policy grants to a repository.",
    "status": "Show what runs: servers, clusters, storage.",
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of a user's first steps."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None if there is no command `cmd_name`."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f".{cmd_name}", __name__)
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.command(cls=LazyGroup)
@click.version_option(__version__, prog_name="pangeo-binder")
def group() -> None:
    """One link to JupyterLab with your own Dask cluster and your own slice of object storage.

    \b
    Start here:
      pangeo-binder up                                        start everything on this machine
      pangeo-binder launch https://github.com/org/repository  launch a repository on it
    """


def main() -> None:
    """Run the command line; a UserError prints its message and hint, never a traceback."""
    try:
        group()
    except UserError as error:
        click.echo(f"{error.message}", err=True)
        if error.hint:
            click.echo(error.hint, err=True)
        sys.exit(1)
