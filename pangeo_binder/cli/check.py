"""The command `check`: reports all problems of a policy file at once."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--values", "in_values", is_flag=True, help="The file holds chart values; check their `policy`.")
def check(policy: Path, in_values: bool) -> None:
    """Check a policy file and print all its problems, each with its line.

    Exits with status 1 if there are problems, for use in CI.

    \b
    Example:
      pangeo-binder check policy.yaml
      pangeo-binder check --values values.yaml
    """
    from ..errors import PolicyInvalid
    from ..policy.load import load_policy, load_policy_in_values

    try:
        loaded = load_policy_in_values(policy) if in_values else load_policy(policy)
    except PolicyInvalid as error:
        click.echo(error.message)
        raise SystemExit(1) from None
    tiers, rules = len(loaded.tiers), len(loaded.rules)
    click.echo(f"{policy}: no problems. {_count(tiers, 'tier')}, {_count(rules, 'rule')}.")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
