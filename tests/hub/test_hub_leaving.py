"""A starting server ends when its user leaves, on a real hub."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import replace

import psutil
import pytest

from pangeo_binder.errors import SpawnFailed
from pangeo_binder.launch.hub import Hub
from tests.hub.hubprocess import HubProcess, NewLaunch
from tests.stack.local import until
from tests.stack.seats import reserve

pytestmark = pytest.mark.timeout(300)

JUPYTERHUBS_LIMIT = 100
"""JupyterHub's default of `concurrent_spawn_limit`."""


async def test_leaving_while_it_starts_leaves_nothing(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch = new_launch()
    slow = replace(launch.environment, start=("sh", "-c", 'sleep 300; exec "$0" "$@"'))
    launch = replace(launch, environment=slow)
    client = Hub(hub.values.hub_api, hub.tokens["binder"], hub.values.secrets.ticket_keys)
    await reserve(client, launch)
    async with aclosing(client.start(launch, hub.ticket(launch))) as starting:
        await anext(starting)
        await asyncio.to_thread(until, "its process runs", lambda: hub.processes(launch), 30)
        assert [server.launch for server in await client.servers() if server.launch.id == launch.id]
    await client.stop(launch)
    await asyncio.to_thread(until, "its processes are gone", lambda: not hub.processes(launch), 30)
    await asyncio.to_thread(until, "its home is gone", lambda: not hub.home(launch).exists(), 30)
    assert hub.ask("binder", "GET", f"/users/{launch.user}").status == 404
    assert not [server for server in await client.servers() if server.launch.id == launch.id]
    await client.close()


async def test_a_server_that_ignores_signals_is_gone_in_time(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch = new_launch()
    deaf = replace(launch.environment, start=("sh", "-c", 'trap "" INT TERM; "$0" "$@"; sleep 300'))
    launch = replace(launch, environment=deaf)
    await hub.launch(launch, hub.ticket(launch))
    assert hub.ask("binder", "DELETE", f"/users/{launch.user}/server").status in (202, 204)
    await asyncio.to_thread(until, "its processes are gone", lambda: not hub.processes(launch), 30)
    await asyncio.to_thread(until, "its home is gone", lambda: not hub.home(launch).exists(), 10)


async def test_a_server_that_dies_while_it_starts_is_reported_at_once(hub: HubProcess, new_launch: NewLaunch) -> None:
    launch = new_launch()
    broken = replace(launch, environment=replace(launch.environment, start=("sh", "-c", "exit 3")))
    with pytest.raises(SpawnFailed, match="ended while it was starting"):
        await asyncio.wait_for(hub.launch(broken, hub.ticket(broken)), 60)
    await asyncio.to_thread(until, "its home is gone", lambda: not hub.home(launch).exists(), 30)


async def test_servers_that_never_come_up_do_not_block_other_launches(hub: HubProcess, new_launch: NewLaunch) -> None:
    first = new_launch()
    never = replace(first.environment, start=("sh", "-c", "exec sleep 300"))
    stuck = [replace(new_launch(), environment=never) for _ in range(JUPYTERHUBS_LIMIT)]
    client = Hub(hub.values.hub_api, hub.tokens["binder"], hub.values.secrets.ticket_keys)
    async with AsyncExitStack() as following:
        for launch in stuck:
            await reserve(client, launch)
            starting = await following.enter_async_context(aclosing(client.start(launch, hub.ticket(launch))))
            assert await anext(starting) == "Server requested"
        assert len([server for server in await client.servers() if not server.ready]) == len(stuck)
        messages = await asyncio.wait_for(hub.launch(first, hub.ticket(first)), 60)
        assert messages[0] == "Server requested"
        for process in hub.processes(*stuck):
            with suppress(psutil.NoSuchProcess):
                process.kill()
    await asyncio.to_thread(until, "all are gone", lambda: not any(hub.home(launch).exists() for launch in stuck), 120)
    await client.close()
