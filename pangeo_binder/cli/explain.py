"""The command `explain`: what a policy would give to one launch, by which rule, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UserError

if TYPE_CHECKING:
    from ..model import DaskGrant, Grant, ServerGrant, StorageGrant
    from ..policy.model import Policy, Rule


class BadNetwork(UserError):
    """The given network is not a network."""

    reason = "bad_network"


@click.command()
@click.argument("repo")
@click.option("--user", help="The login of who launches.  [default: nobody is logged in]")
@click.option("--group", "groups", multiple=True, help="A group of that login; repeatable.")
@click.option("--network", default="", help="The network it is launched from, as rules count it: 203.0.113.7.")
@click.option("--policy", type=click.Path(path_type=Path), help="The policy file.  [default: the one `up` uses]")
def explain(repo: str, user: str | None, groups: tuple[str, ...], network: str, policy: Path | None) -> None:
    """Explain what a launch of REPO would get, by which rule of the policy, and why.

    REPO is gh/org/repo, gl/org/repo, git/<quoted address>, each with /ref or without, an address, or a folder.
    Nothing is looked up and nothing is started; running launches are not counted. If it makes a difference whether the
    commit is on a branch or tag of the repository, both answers are shown.

    \b
    Examples:
      pangeo-binder explain gh/pangeo-gallery/physical-oceanography/main --policy policy.yaml
      pangeo-binder explain https://example.org/group/repo.git --user ada --policy policy.yaml
    """
    from ..policy.address import canonical
    from ..policy.load import default_policy, load_policy
    from ..policy.match import FOREIGN, Denial, Question, depends_on_provenance, match
    from .reporef import is_record, parse_repo

    ref, network = parse_repo(repo), _counted(network)
    loaded = load_policy(policy) if policy else default_policy()
    question = Question(ref, user, network, groups=groups)
    answer = match(loaded, question)
    rows = [("Repository", " at ".join(filter(None, (canonical(ref), ref.ref))))]
    if isinstance(answer, Denial):
        rows += [("Denied", answer.sentence)]
    else:
        rows += _granted(answer, loaded, network)
    rows += [("Reason", answer.reason)]
    if depends_on_provenance(loaded, question) and not is_record(ref):
        rows += [("Otherwise", match(loaded, replace(question, foreign_reason=FOREIGN)).reason)]
    shown = ""
    for label, text in rows:
        click.echo(f"{label if label != shown else '':<12}{text}")
        shown = label


def _counted(network: str) -> str:
    """Return the network as rules count it: an IPv4 address, an IPv6 /64. Raises BadNetwork if it is not one."""
    import ipaddress

    try:
        found = ipaddress.ip_network(network, strict=False) if network else None
    except ValueError:
        raise BadNetwork(
            f"`{network}` is not a network.", "Give an address such as 203.0.113.7 or 2001:db8::1."
        ) from None
    if found is None or found.prefixlen == 64:
        return str(found or "")
    if found.num_addresses > 1:
        raise BadNetwork(f"`{network}` is more than one network to a rule.", "Give one address in it.")
    return str(found.network_address if found.version == 4 else found.supernet(new_prefix=64))


def _granted(grant: Grant, policy: Policy, network: str) -> Iterator[tuple[str, str]]:
    yield "Tier", grant.tier
    yield "Server", _server(grant.server)
    yield from (("Dask", text) for text in (_dask(grant.dask) if grant.dask else ["none"]))
    yield from (("Storage", text) for text in (_storage(grant.storage) if grant.storage else ["none"]))
    number = policy.rule_number(grant.rule)
    assert number is not None
    rule = policy.rules[number - 1]
    yield "Rule", f"number {number}, {_limits(rule, network)}"
    yield "Rule", f"running launches count for it by {_identity(rule)}"
    yield "Rule", "launches whose rule is no longer in the policy count for the totals only"


def _identity(rule: Rule) -> str:
    if rule.name:
        return f"its name, {rule.name}, whatever its number and its content"
    return f"what it says ({rule.content}), whatever its number and its limits; a `name` would survive edits as well"


def _server(server: ServerGrant) -> str:
    from ..policy.units import duration_text, size_text

    ends = f"ends {duration_text(server.idle_seconds)} after the last activity, and at the age of "
    return f"{server.cpu:g} CPU, {size_text(server.memory_bytes)}; {ends}{duration_text(server.max_age_seconds)}"


def _dask(dask: DaskGrant) -> Iterator[str]:
    from ..policy.units import duration_text, size_text

    yield f"clusters: {dask.clusters}, ended {duration_text(dask.idle_seconds)} after the last work"
    yield f"workers: {dask.workers}, together {_count(dask.cores)} and {size_text(dask.memory_bytes)}"
    yield f"a worker: {_count(dask.worker_cores)}, {size_text(dask.worker_memory_bytes)} at most"
    start = "first one is made with the launch" if dask.precreate else "none is made in advance"
    must = ", which fails without it" if dask.required else ""
    yield f"start: {start}{must}" + (f"; workers at first: {dask.start_workers}" if dask.start_workers else "")


def _storage(storage: StorageGrant) -> Iterator[str]:
    from ..policy.units import duration_text, size_text

    yield f"scratch: {size_text(storage.scratch_bytes)}, kept {duration_text(storage.keep_seconds)} after the launch"
    yield f"reads: {', '.join(entry.name for entry in storage.read) or 'nothing of the catalogue'}"
    if storage.egress_bytes is not None:
        yield f"reads at most {size_text(storage.egress_bytes)} in total"


def _count(number: float, noun: str = "core") -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"


def _limits(rule: Rule, network: str) -> str:
    whose = f"your network ({network})" if network else "each network"
    limits = [f"{_count(rule.servers, 'server')} at a time"] if rule.servers else []
    limits += [f"{_count(rule.per_network, 'server')} from {whose}"] if rule.per_network else []
    limits += [f"{_count(rule.per_user, 'server')} for each login"] if rule.per_user else []
    limits += [f"{_count(rule.dask_cores, 'Dask core')} at a time"] if rule.dask_cores else []
    return f"shared by all its launches: {', '.join(limits)}" if limits else "with no limits of its own"
