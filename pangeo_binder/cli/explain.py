"""The command `explain`: what a policy would give to one launch, by which rule, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..model import DaskGrant, Grant, ServerGrant, StorageGrant
    from ..policy.model import Policy, Rule


@click.command()
@click.argument("repo")
@click.option("--user", help="The login of who launches.  [default: nobody is logged in]")
@click.option("--network", default="", help="The network it is launched from, as rules count it: 203.0.113.7.")
@click.option("--policy", type=click.Path(path_type=Path), help="The policy file.  [default: the one `up` uses]")
def explain(repo: str, user: str | None, network: str, policy: Path | None) -> None:
    """Explain what a launch of REPO would get, by which rule of the policy, and why.

    REPO is gh/org/repo, gl/org/repo, git/<quoted address>, each with /ref or without, an address, or a folder.
    Nothing is looked up and nothing is started; what runs elsewhere is not counted. Where it makes a difference whether
    the commit is on a branch or tag of the repository, both answers are told.

    \b
    Examples:
      pangeo-binder explain gh/pangeo-gallery/physical-oceanography/main --policy policy.yaml
      pangeo-binder explain https://example.org/group/repo.git --user ada --policy policy.yaml
    """
    from ..policy.address import canonical
    from ..policy.load import default_policy, load_policy
    from ..policy.match import FOREIGN, Denial, Question, match, rests_on_repository
    from .reporef import parse_repo

    ref = parse_repo(repo)
    loaded = load_policy(policy) if policy else default_policy()
    question = Question(ref, user, network)
    answer = match(loaded, question)
    rows = [("Repository", f"{canonical(ref)} at {ref.ref}")]
    if isinstance(answer, Denial):
        rows += [("Denied", answer.sentence)]
    else:
        rows += _granted(answer, loaded, network)
    rows += [("Reason", answer.reason)]
    if rests_on_repository(loaded, question):
        rows += [("Otherwise", match(loaded, replace(question, doubt=FOREIGN)).reason)]
    shown = ""
    for label, text in rows:
        click.echo(f"{label if label != shown else '':<12}{text}")
        shown = label


def _granted(grant: Grant, policy: Policy, network: str) -> Iterator[tuple[str, str]]:
    yield "Tier", grant.tier
    yield "Server", _server(grant.server)
    yield from (("Dask", text) for text in (_dask(grant.dask) if grant.dask else ["none"]))
    yield from (("Storage", text) for text in (_storage(grant.storage) if grant.storage else ["none"]))
    yield "Rule", f"number {grant.rule}, {_limits(policy.rules[grant.rule - 1], network)}"


def _server(server: ServerGrant) -> str:
    from ..policy.units import duration_text, size_text

    ends = f"ends {duration_text(server.idle_seconds)} after the last activity, and at the age of "
    return f"{server.cpu:g} CPU, {size_text(server.memory_bytes)}; {ends}{duration_text(server.max_age_seconds)}"


def _dask(dask: DaskGrant) -> Iterator[str]:
    from ..policy.units import duration_text, size_text

    yield f"clusters: {dask.clusters}, ended {duration_text(dask.idle_seconds)} after the last work"
    yield f"workers: {dask.workers}, together {dask.cores:g} cores and {size_text(dask.memory_bytes)}"
    yield f"a worker: {dask.worker_cores:g} cores, {size_text(dask.worker_memory_bytes)} at most"
    start = "first one is made with the launch" if dask.precreate else "none is made in advance"
    must = ", which fails without it" if dask.required else ""
    yield f"start: {start}{must}" + (f"; workers at first: {dask.start_workers}" if dask.start_workers else "")


def _storage(storage: StorageGrant) -> Iterator[str]:
    from ..policy.units import duration_text, size_text

    yield f"scratch: {size_text(storage.scratch_bytes)}, kept {duration_text(storage.keep_seconds)} after the launch"
    yield f"reads: {', '.join(entry.name for entry in storage.read) or 'nothing of the catalogue'}"
    if storage.egress_bytes is not None:
        yield f"reads at most {size_text(storage.egress_bytes)} in all"


def _limits(rule: Rule, network: str) -> str:
    whose = f"your network ({network})" if network else "each network"
    limits = [f"{rule.servers} servers at a time"] if rule.servers else []
    limits += [f"{rule.per_network} servers from {whose}"] if rule.per_network else []
    limits += [f"{rule.dask_cores:g} Dask cores at a time"] if rule.dask_cores else []
    return f"shared by all its launches: {', '.join(limits)}" if limits else "with no limits of its own"
