"""The session distribution in a real Jupyter server."""

from __future__ import annotations

import asyncio
import datetime
import json
import subprocess
import uuid

import aiohttp
import pytest


def when(post: dict) -> datetime.datetime:
    assert post["servers"]["one"]["last_activity"] == post["last_activity"]
    return datetime.datetime.fromisoformat(post["last_activity"])


async def test_an_idle_session_reports_its_last_activity(start, session_env, hub, wait_until_ready):
    await wait_until_ready(start(session_env))
    first = await hub.after(2)
    last = await hub.after(2)
    assert when(first) == when(last)
    assert set(hub.headers) == {"token api-token"}


async def test_requests_count_as_activity_but_notices_do_not(start, session_env, hub, wait_until_ready, client):
    url = await wait_until_ready(start(session_env))
    before = when(await hub.after(2))
    async with client.get(f"{url}/pangeo-binder/notices") as response:
        notices = await response.json()
    assert notices["ends_at"] == 4102444800 and notices["minutes_left"] > 1000
    assert str(notices["minutes_left"]) in notices["message"]
    assert when(await hub.after(2)) == before
    async with client.get(f"{url}/api/contents") as response:
        assert response.status == 200
    assert when(await hub.after(2)) > before


async def test_notices_need_the_servers_token(start, session_env, hub, wait_until_ready):
    url = await wait_until_ready(start(session_env))
    async with aiohttp.ClientSession() as stranger, stranger.get(f"{url}/pangeo-binder/notices") as response:
        assert response.status == 403


async def test_pages_and_cookies_are_kept_from_other_sessions(start, session_env, wait_until_ready):
    url = await wait_until_ready(start(session_env))
    async with aiohttp.ClientSession() as browser, browser.get(f"{url}/login") as response:
        assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "frame-ancestors 'self'" in response.headers["Content-Security-Policy"]


_KEEP_APART = """
import json, sys
from types import SimpleNamespace
from pangeo_binder_session.apart import keep_apart
app = SimpleNamespace(settings=json.loads(sys.argv[1]))
keep_apart(app)
print(json.dumps(app.settings))
"""


@pytest.mark.parametrize("own", [{}, {"headers": {"Cross-Origin-Opener-Policy": "unsafe-none"}}])
def test_only_what_the_repository_did_not_set_is_set(prefix, own):
    held = json.dumps({"base_url": "/user/sst/", **own})
    settings = json.loads(subprocess.check_output([f"{prefix}/bin/python", "-c", _KEEP_APART, held]))
    assert settings["xsrf_cookie_kwargs"] == {"path": "/user/sst/"}
    assert settings["headers"] == own.get("headers", {"Cross-Origin-Opener-Policy": "same-origin"})


async def execute(client: aiohttp.ClientSession, url: str, code: str) -> None:
    """Start a kernel and run `code` in it, without waiting for its end."""
    async with client.post(f"{url}/api/kernels") as response:
        kernel = (await response.json())["id"]
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "username": "",
        "session": "",
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
    body = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    async with client.ws_connect(f"{url}/api/kernels/{kernel}/channels") as socket:
        await socket.send_str(json.dumps(body))
        async for message in socket:
            if "busy" in str(message.data) and header["msg_id"] in str(message.data):
                return


async def test_a_busy_kernel_counts_as_activity_without_requests(start, session_env, hub, wait_until_ready, client):
    url = await wait_until_ready(start(session_env))
    await execute(client, url, "import time; time.sleep(300)")
    await asyncio.sleep(1)
    first = when(await hub.after(2))
    assert when(await hub.after(2)) > first


async def test_a_computing_cluster_counts_as_activity(start, session_env, hub, wait_until_ready):
    await wait_until_ready(start(session_env))
    idle = when(await hub.after(2))
    hub.processing = 3
    first = when(await hub.after(2))
    assert idle < first < when(await hub.after(2))
    hub.processing = 0
    assert when(await hub.after(3)) == idle


async def test_a_failing_hub_does_not_affect_the_server(start, session_env, hub, wait_until_ready, client):
    hub.status = 503
    url = await wait_until_ready(start({**session_env, "DASK_GATEWAY__ADDRESS": "http://127.0.0.1:1"}))
    await hub.after(2)
    async with client.get(f"{url}/api/status") as response:
        assert response.status == 200
    hub.status = 200
    await hub.after(2)


async def test_nothing_is_reported_without_a_hub(start, hub, wait_until_ready, client):
    url = await wait_until_ready(start({}))
    async with client.get(f"{url}/pangeo-binder/notices") as response:
        assert await response.json() == {"ends_at": None, "minutes_left": None, "message": ""}
    assert hub.posts == []


SCHEDULER = """
import json, urllib.request
from distributed import Client, LocalCluster
with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
    with Client(cluster) as client:
        import time
        future = client.submit(time.sleep, 3)
        time.sleep(1)
        port = cluster.scheduler.http_server.port
        print(urllib.request.urlopen(f"http://127.0.0.1:{port}/json/counts.json").read().decode())
"""


def test_a_real_scheduler_reports_counts_like_the_stand_in(prefix, tmp_path):
    argv = [f"{prefix}/bin/python", "-W", "ignore", "-c", SCHEDULER]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, check=True, timeout=120)
    assert json.loads(done.stdout)["processing"] == 1


ATTACH = """
import asyncio
from dask_gateway import GatewayClusterError, client

class Seen(client.GatewayCluster):
    async def _start_internal(self):
        if self.name == "gone":
            raise GatewayClusterError("gone")
        return "attached to " + str(self.name)

import dask_gateway
dask_gateway.GatewayCluster = Seen
from pangeo_binder_session.dask import attach
print(asyncio.run(attach(asynchronous=True)))
"""


@pytest.mark.parametrize(("name", "printed"), [("first", "attached to first"), ("gone", "attached to None")])
def test_the_panel_connects_to_the_sessions_cluster(prefix, tmp_path, name, printed):
    env = {"HOME": str(tmp_path), "DASK_GATEWAY_CLUSTER": name, "DASK_GATEWAY__ADDRESS": "http://127.0.0.1:1"}
    argv = [f"{prefix}/bin/python", "-W", "ignore", "-c", ATTACH]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, env=env, check=True, timeout=60)
    assert done.stdout.strip() == printed
