"""The command `badge`: the text that puts a launch badge into a README."""

from __future__ import annotations

import click

from .reporef import FORMATS, BadgeFormat, badge_text, check_hub, local_hub, read_repo


@click.command()
@click.argument("repo")
@click.option("--ref", default="", help="The branch, tag or commit.  [default: the one in REPO, or HEAD]")
@click.option("--hub", default="", help="The binder's address.  [default: the one running on this machine]")
@click.option("--urlpath", default="", help="What opens in the server, such as lab/tree/index.ipynb.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="markdown", show_default=True)
def badge(repo: str, ref: str, hub: str, urlpath: str, form: BadgeFormat) -> None:
    """Print the badge that launches REPO, to paste into a README.

    REPO is gh/org/repo, gl/org/repo or git/<quoted address>, each with or without /ref, a folder, or any address that
    the form on the front page reads: a file on GitHub, a pull request, a gist, a link or badge of another binder.

    \b
    Examples:
      pangeo-binder badge gh/org/repo/main --hub https://binder.example.org/
      pangeo-binder badge https://example.org/org/repo --urlpath lab/tree/index.ipynb --format html
    """
    base = check_hub(hub) if hub else local_hub()
    click.echo(badge_text(base, read_repo(repo, ref).link(base, urlpath), form))
