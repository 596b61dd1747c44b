"""The command `status`: what runs on this machine's stack, and what it uses."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import HubUnavailable, UserError

if TYPE_CHECKING:
    from ..deploy.local.values import LocalValues
    from ..model import Server
    from ..policy.model import Policy

_ANSWER_BYTES = 16 << 20


class NothingRuns(UserError):
    """No stack answers in this state directory."""

    reason = "nothing_runs"


@click.command()
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".state"),
    show_default=True,
    help="The state directory given to `up`.",
)
def status(state_dir: Path) -> None:
    """Show the servers, Dask clusters and storage in use.

    \b
    Example:
      pangeo-binder status --state-dir /data/binder
    """
    from ..deploy.local.values import read_values
    from .terminal import make_console

    try:
        values = read_values(state_dir)
    except FileNotFoundError:
        raise _nothing(state_dir) from None
    console = make_console()
    console.print(f"pangeo-binder at {values.address}\n", highlight=False)
    for table in _tables(values, state_dir):
        console.print(table)


def _nothing(state_dir: Path) -> NothingRuns:
    return NothingRuns(f"No pangeo-binder runs in {state_dir}.", "Start one with: pangeo-binder up")


def _tables(values: LocalValues, state_dir: Path) -> list[Any]:
    import asyncio

    token = values.secrets.status_token
    try:
        servers = asyncio.run(_servers(values))
    except HubUnavailable:
        raise _nothing(state_dir) from None
    clusters = _get(f"{values.gateway_url}/api/v1/launches/", f"jupyterhub {token}", state_dir)
    bearer = f"Bearer {values.secrets.storage_status_token}"
    storage = _get(f"{values.storage_admin_url}/launches", bearer, state_dir)["launches"]
    return [_server_table(servers, _policy(values)), _cluster_table(clusters), _storage_table(storage)]


def _policy(values: LocalValues) -> Policy | None:
    """Return the policy as its file is now; None if it has mistakes, which `check` shows."""
    from ..errors import PolicyInvalid
    from ..policy.load import default_policy, load_policy

    try:
        return load_policy(values.policy) if values.policy else default_policy()
    except PolicyInvalid:
        return None


def rule_text(identity: str, policy: Policy | None) -> str:
    """Return a launch's rule for people: its name, or else its number; marked if `policy` no longer has the rule."""
    number = policy.rule_number(identity) if policy else None
    if policy is None:
        return f"{identity} (the policy file has mistakes)"
    if number is None:
        return f"{identity} (no longer in the policy)"
    return policy.rules[number - 1].name or f"number {number}"


async def _servers(values: LocalValues) -> list[Server]:
    from ..launch.hub import Hub

    hub = Hub(values.hub_api, values.secrets.status_token, values.secrets.ticket_keys)
    try:
        return await hub.servers()
    finally:
        await hub.close()


def _get(url: str, authorization: str, state_dir: Path) -> Any:
    import urllib.request

    request = urllib.request.Request(url, headers={"Authorization": authorization})  # noqa: S310 (always loopback)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            return json.loads(response.read(_ANSWER_BYTES))  # a longer answer is cut, so it is not JSON
    except (OSError, ValueError):
        raise _nothing(state_dir) from None


def _table(title: str, *columns: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _server_table(servers: list[Server], policy: Policy | None) -> Any:
    table = _table(f"Servers: {len(servers)}", "User", "Repository", "Tier", "Rule", "State", "Age", "Quiet for")
    for server in servers:
        launch, state = server.launch, "ready" if server.ready else "starting or stopping"
        age, quiet = _since(server.started), _since(server.last_activity)
        rule = rule_text(launch.grant.rule, policy)
        table.add_row(launch.user, launch.repo.ref.url, launch.grant.tier, rule, state, age, quiet)
    return table


def _cluster_table(clusters: list[dict[str, Any]]) -> Any:
    table = _table(f"Dask clusters: {len(clusters)}", "Cluster", "Launch", "State", "Workers", "May have")
    for cluster in clusters:
        workers, limit = str(cluster["workers"]), str(cluster["max_workers"])
        table.add_row(cluster["name"], cluster["owner"], cluster["status"].lower(), workers, limit)
    return table


def _storage_table(storage: list[dict[str, Any]]) -> Any:
    table = _table(f"Storage: {len(storage)}", "Launch", "Owner", "Used", "May use", "State")
    for entry in storage:
        state = "revoked" if entry["revoked"] else "live"
        used, limit = _size(entry["used_bytes"]), _size(entry["scratch_bytes"])
        table.add_row(entry["id"], entry["owner"], used, limit, state)
    return table


def _size(count: float) -> str:
    for unit in ("B", "K", "M", "G"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} T"


def _since(timestamp: str) -> str:
    if not timestamp:
        return "-"
    seconds = int((datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds())
    return f"{seconds // 3600}h {seconds % 3600 // 60}m" if seconds >= 3600 else f"{seconds // 60}m {seconds % 60}s"
