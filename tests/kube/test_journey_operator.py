"""The journey on a real cluster with the dask-kubernetes operator: clusters compute, grow, and are isolated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kube.cells import REACH, SCRATCH, SUM, looks_at
from tests.stack.installed import OPERATOR, OPERATOR_NAMESPACE, Installed, Launched
from tests.stack.kernel import Kernel
from tests.stack.local import until

pytestmark = pytest.mark.timeout(900)

_CLUSTER = """
from dask.distributed import Client
client = Client(timeout=120)
client.wait_for_workers(1, timeout=240)
"""
_LOAD = "import time\nfutures = client.map(lambda number: time.sleep(2), range(500))"
_WANTED = "lambda dask_scheduler: dask_scheduler.adaptive_target()"
_KINDS = "pods,daskclusters.kubernetes.dask.org,daskautoscalers.kubernetes.dask.org,deployments,secrets,networkpolicies"


@pytest.fixture(scope="module")
def launched(installed_operated: Installed, repository: str) -> Launched:
    """A session of it."""
    return installed_operated.launch(repository)


@pytest.fixture(scope="module")
def other(installed_operated: Installed, repository: str, launched: Launched) -> Iterator[Launched]:
    """Another launch."""
    session = installed_operated.launch(repository)
    yield session
    session.stop()


@pytest.fixture(scope="module")
def kernel(launched: Launched) -> Iterator[Kernel]:
    """A kernel in the first session, with its cluster."""
    with Kernel(launched) as running:
        running.value(REACH + _CLUSTER, 400)
        yield running


@pytest.fixture(scope="module")
def others(other: Launched) -> Iterator[Kernel]:
    """A kernel in the other session."""
    with Kernel(other) as running:
        running.value(REACH)
        yield running


def _image(pod: dict[str, Any]) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def _of(launched: Launched, component: str) -> list[dict[str, Any]]:
    """Return the running pods of one of the operator's components."""
    pods = launched.objects("pods", f"dask.org/component={component}")
    return [pod for pod in pods if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]]


def test_workers_compute_with_the_sessions_image(launched: Launched, kernel: Kernel) -> None:
    assert kernel.value(SUM) == "160000.0"
    assert len(_of(launched, "scheduler")) == 1 and len(_of(launched, "worker")) == 1
    assert "@sha256:" in _image(launched.server)
    pods = launched.pods()
    assert {_image(pod) for pod in pods} == {_image(launched.server)}
    assert [pod["spec"].get("imagePullSecrets") for pod in pods] == [[{"name": "pull"}]] * len(pods)


def test_scratch_works_from_pod_and_worker(kernel: Kernel) -> None:
    assert kernel.value(SCRATCH) == "worker"


def test_another_launchs_pods_are_closed(launched: Launched, kernel: Kernel, others: Kernel) -> None:
    server, scheduler = launched.server["status"]["podIP"], _of(launched, "scheduler")[0]["status"]["podIP"]
    worker = kernel.value("print(list(client.scheduler_info()['workers'])[0])").removeprefix("tls://").rsplit(":", 1)
    places = [(server, 8888), (scheduler, 8786), (scheduler, 8787), tuple(worker)]
    asked = f"print([reaches(*place) for place in {places!r}])"
    assert kernel.value(asked) == str([True] * len(places))
    assert others.value(asked) == str([False] * len(places))
    place = kernel.value("import os; print(os.environ['SCRATCH_BUCKET'].removeprefix('s3://'))")
    assert kernel.value(looks_at(place)) == "open" and others.value(looks_at(place)) == "closed"


def test_the_operator_reaches_dashboards_and_nothing_else(launched: Launched, kernel: Kernel) -> None:
    server, scheduler = launched.server["status"]["podIP"], _of(launched, "scheduler")[0]["status"]["podIP"]
    places = [(scheduler, 8787), (scheduler, 8786), (server, 8888)]
    code = f"{REACH}\nprint([reaches(*place) for place in {places!r}])"
    command = ["exec", "-n", OPERATOR_NAMESPACE, f"deploy/{OPERATOR}", "--", "python", "-c", code]
    assert launched.release.cluster.kubectl(*command).strip() == str([True, False, False])


def test_it_grows_with_the_work_and_never_beyond_the_grant(launched: Launched, kernel: Kernel) -> None:
    kernel.value(_LOAD)
    until("the second worker runs", lambda: len(_of(launched, "worker")) == 2, 120)
    kernel.value("client.wait_for_workers(2, timeout=120)", 150)
    wanted = kernel.value(f"print(client.run_on_scheduler({_WANTED}))")
    assert int(wanted) > 2, "it would like more"
    time.sleep(12)  # two looks of the autoscaler
    assert len(launched.objects("deployments", "dask.org/component=worker")) == 2


def test_nothing_is_left_after_the_stop(launched: Launched, other: Launched) -> None:
    names = {each["metadata"]["name"] for each in other.objects(_KINDS)}
    assert {"session", "storage", "pull", "dask-keys", "dask-operator", f"dask-{other.id}"} <= names
    launched.stop()
    gone = ["get", "namespace", launched.namespace, "--ignore-not-found", "-o", "name"]
    until("the namespace is gone", lambda: not launched.release.cluster.kubectl(*gone).strip(), 180)
    assert {each["metadata"]["name"] for each in other.objects(_KINDS)} >= names
    assert other.request("api/status").status == 200
