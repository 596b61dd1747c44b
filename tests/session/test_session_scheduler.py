"""A session connects to a scheduler as the Dask operator runs it: encrypted, and with its dashboard."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pangeo_binder.deploy.local.values import free_port
from pangeo_binder.hub.dask.operator.keys import new_keys
from tests.stack.local import until

NOTEBOOK = """
import json, os, urllib.request, warnings
from pangeo_binder_session.dask import attach

cluster = attach()
client = cluster.get_client()
client.wait_for_workers(1, timeout=60)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    cluster.scale(1000), cluster.adapt(maximum=1000)
host = cluster.dashboard_link.rsplit("/", 1)[0]
health = urllib.request.urlopen(host + "/health").read().decode()
print(json.dumps([client.submit(sum, [1, 2]).result(), [str(each.message) for each in caught], health, host]))
client.close()
cluster.close()
"""
PANEL = """
import asyncio
from pangeo_binder_session.dask import attach

async def use():
    cluster = await attach(asynchronous=True)
    print(cluster.status.name, len(cluster.scheduler_info["workers"]), cluster.scheduler_address)
    await cluster.close()

asyncio.run(use())
"""
PLAIN = "from distributed import Client; print(Client(timeout=10).submit(sum, [1, 2]).result())"


@pytest.fixture(scope="module")
def operated(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A scheduler with a worker as the operator runs them; yields its session's environment variables."""
    folder, port, dashboard = tmp_path_factory.mktemp("scheduler"), free_port(), free_port()
    variables = {**new_keys(600), "HOME": str(folder), "DASK_SCHEDULER_ADDRESS": f"tls://127.0.0.1:{port}"}
    variables |= {"PANGEO_BINDER_DASHBOARD": f"http://127.0.0.1:{dashboard}", "PANGEO_BINDER_MOST_WORKERS": "6"}
    environment = {**variables, "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True"}
    own = ["--host=127.0.0.1", f"--port={port}", f"--dashboard-address=127.0.0.1:{dashboard}"]
    roles = {"scheduler": own, "worker": ["--nthreads=1", "--no-nanny"]}
    processes = []
    for role, options in roles.items():
        command = [f"{prefix}/bin/python", "-m", f"distributed.cli.dask_{role}", "--protocol=tls", *options]
        with (folder / f"{role}.log").open("w") as log:
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder))
    until("the worker has registered", lambda: "Registered to" in (folder / "worker.log").read_text())
    yield variables
    for process in reversed(processes):
        process.terminate()
        process.wait(30)


def run(prefix: Path, code: str, environment: dict[str, str], *, check: bool = True) -> str:
    argv = [f"{prefix}/bin/python", "-W", "ignore", "-c", code]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout or done.stderr


def test_a_notebook_connects_and_is_warned_that_scaling_is_automatic(prefix, operated):
    result, warned, health, host = json.loads(run(prefix, NOTEBOOK, operated))
    assert (result, health) == (3, "ok")
    assert warned == ["This cluster scales automatically with its work, up to 6 workers."] * 2
    assert host.startswith("http://127.0.0.1:") and host != operated["PANGEO_BINDER_DASHBOARD"]


def test_the_panel_connects_and_closing_it_leaves_the_cluster_running(prefix, operated):
    for _ in range(2):
        assert run(prefix, PANEL, operated).split() == ["running", "1", operated["DASK_SCHEDULER_ADDRESS"]]


def test_a_plain_client_needs_no_arguments(prefix, operated):
    assert run(prefix, PLAIN, operated).strip() == "3"


@pytest.mark.parametrize("keys", [{}, dict(new_keys(600))], ids=["no keys", "keys of another launch"])
def test_a_client_without_the_launchs_keys_is_refused(prefix, operated, keys):
    stranger = {name: value for name, value in operated.items() if "__TLS__" not in name}
    assert run(prefix, PLAIN, {**stranger, **keys}, check=False).strip() != "3"


def test_an_unencrypted_connection_is_refused(prefix, operated):
    plain = {**operated, "DASK_SCHEDULER_ADDRESS": operated["DASK_SCHEDULER_ADDRESS"].replace("tls", "tcp")}
    assert run(prefix, PLAIN, plain, check=False).strip() != "3"


def test_a_stopped_cluster_is_reported_as_not_answering(prefix, operated):
    ended = {**operated, "DASK_SCHEDULER_ADDRESS": f"tls://127.0.0.1:{free_port()}"}
    output = run(prefix, PANEL, {**ended, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s"}, check=False)
    assert "RuntimeError: The Dask cluster of this session does not answer." in output


async def test_the_panel_lists_the_dashboards_plots(operated, start, wait_until_ready, client):
    factory = {"DASK_LABEXTENSION__FACTORY__MODULE": "pangeo_binder_session.dask"}
    url = await wait_until_ready(start({**operated, **factory, "DASK_LABEXTENSION__FACTORY__CLASS": "attach"}))
    cluster = f"{url}/dask/clusters/0f4fe0a6-3f0a-4a57-9d4d-0d8f0a3f4d7b"
    async with client.put(cluster) as response:
        made = await response.json()
    assert (made["scheduler_address"], made["workers"]) == (operated["DASK_SCHEDULER_ADDRESS"], 1)
    async with client.get(f"{url}/dask/dashboard/{made['id']}/individual-plots.json") as response:
        assert "/individual-task-stream" in (await response.json()).values()


async def test_a_computing_scheduler_counts_as_activity_without_the_token(start, session_env, hub, wait_until_ready):
    variables = {name: value for name, value in session_env.items() if not name.startswith("DASK_")}
    await wait_until_ready(start({**variables, "PANGEO_BINDER_DASHBOARD": f"{hub.url}/scheduler"}))
    idle = (await hub.after(2))["last_activity"]
    hub.processing = 3
    assert idle < (await hub.after(2))["last_activity"] < (await hub.after(2))["last_activity"]
    assert hub.seen_tokens == {None}
