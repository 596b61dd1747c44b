"""Stock notebooks in a launch that may have one cluster: a request for a new one gets the launch's own.

The tests run in this order: the session begins with the cluster that was created for it.
"""

from __future__ import annotations

import re

import pytest

from tests.stack.kernel import Kernel
from tests.stack.local import LocalStack, Session, until

from .test_gateway_refusals import ask, make, token

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

FIRST_CELL = "from dask_gateway import GatewayCluster\ncluster = GatewayCluster()\ncluster.adapt(1, 10)"
COMPUTE = "print(client.submit(sum, [1, 2]).result(timeout=120))"
SECOND_CELL = f"client = cluster.get_client()\n{COMPUTE}"
SLOW_NANNIES = """
async def slow(dask_worker):
    import asyncio
    start = dask_worker.instantiate
    async def instantiate():
        await asyncio.sleep(6)
        return await start()
    dask_worker.instantiate = instantiate
client.run(slow, nanny=True)
"""
PIDS = "import os\nprint(sorted(client.run(os.getpid, nanny=True).values()))"


def name_of(session: Session) -> str:
    (cluster,) = session.clusters()
    return str(cluster["name"])


def first_cell(kernel: Kernel) -> str:
    """Run the first cell of a stock notebook and return its cluster's name; the cell may print a warning."""
    kernel.value(FIRST_CELL)
    return kernel.value("print(cluster.name)")


def end(session: Session, kernel: Kernel) -> None:
    """End the kernel as the notebook's menu does, so that its objects shut their clusters down."""
    assert session.request(f"api/kernels/{kernel.id}", "DELETE").status == 204


def test_the_first_cells_get_the_launchs_cluster(one: Session) -> None:
    created = one.environment()["DASK_GATEWAY_CLUSTER"]
    with Kernel(one) as kernel:
        assert first_cell(kernel) == created == name_of(one)
        assert kernel.value(SECOND_CELL) == "3"
        assert first_cell(kernel) == created, "the cell is run again, and the first object is collected"
        assert kernel.value(f"import gc\ngc.collect()\n{SECOND_CELL}") == "3"
        kernel.value("from distributed import Event\nwaits = client.submit(lambda: Event('go').wait(timeout=120))")
        refused = make(one)
        assert refused.status == 422, "it computes"
        assert refused.json["error"].startswith("This launch may have 1 Dask cluster at a time and has 1.")
        kernel.value("Event('go').set()\nwaits.result()")
        end(one, kernel)
    until("the last holder has shut it down", lambda: not one.clusters(), 60)


def test_two_notebooks_share_it_until_both_have_ended(one: Session) -> None:
    with Kernel(one) as kernel, Kernel(one) as second:
        made = first_cell(kernel)
        assert made != one.environment()["DASK_GATEWAY_CLUSTER"]
        assert first_cell(second) == made
        end(one, kernel)
        assert second.value(SECOND_CELL) == "3"
        end(one, second)
    until("the cluster is gone", lambda: not one.clusters(), 60)


def test_another_launch_shuts_down_no_holders_cluster(one: Session, other: Session) -> None:
    for _ in range(2):
        assert make(one).status == 201
    name = name_of(one)
    assert ask(one.stack, token(other), "DELETE", f"clusters/{name}").status == 403
    assert ask(one.stack, "x", "DELETE", f"clusters/{name}").status == 401
    assert ask(one.stack, token(one), "DELETE", f"clusters/{name}").status == 204
    assert name_of(one) == name, "one holder is left"
    assert ask(one.stack, token(one), "DELETE", f"clusters/{name}").status == 204
    until("the cluster is gone", lambda: not one.clusters(), 60)


def test_a_cluster_with_other_options_is_refused_while_one_is_held(one: Session) -> None:
    name = make(one).json["name"]
    until("it runs", lambda: one.clusters()[0]["status"] == "RUNNING", 120)
    assert make(one, worker_memory=0.5).status == 422
    assert make(one, worker_memory=5).json["error"] == "worker_memory must be <= 1.000000, got 5.0"
    assert name_of(one) == name
    assert ask(one.stack, token(one), "DELETE", f"clusters/{name}").status == 204
    until("the cluster is gone", lambda: not one.clusters(), 60)


def test_other_options_replace_the_first_cluster_that_nobody_uses(stack: LocalStack, one: Session) -> None:
    fresh = stack.launch(re.sub("/state$", "/one", stack.state_dir.as_uri()))
    created = name_of(fresh)
    until("it runs", lambda: fresh.clusters()[0]["status"] == "RUNNING", 120)
    made = make(fresh, worker_memory=0.5)
    assert made.status == 201 and name_of(fresh) == made.json["name"] != created
    fresh.stop()


@pytest.mark.parametrize(
    "how", ["client.restart()", "client.register_plugin(PipInstall(['toolz'], restart_workers=True))"]
)
def test_workers_restart_in_their_own_time(one: Session, how: str) -> None:
    """The gateway ended workers that took more than 3 s, so the restart failed or got others."""
    with Kernel(one) as kernel:
        kernel.value("from dask_gateway import GatewayCluster\nfrom distributed import PipInstall")
        kernel.value("cluster = GatewayCluster()\ncluster.scale(2)\nclient = cluster.get_client()")
        kernel.value(f"client.wait_for_workers(2, timeout=120)\n{SLOW_NANNIES}")
        before = kernel.value(PIDS)
        kernel.value(how)
        kernel.value(
            "client.wait_for_workers(2, timeout=60)\nassert client.submit(sum, [1, 2]).result(timeout=60) == 3"
        )
        assert kernel.value(PIDS) == before
        end(one, kernel)
    until("the cluster is gone", lambda: not one.clusters(), 60)
