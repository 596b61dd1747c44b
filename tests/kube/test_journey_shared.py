"""The journey on a real cluster whose launches share a namespace: each computes, and none reaches another's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kube.cells import REACH, SCRATCH, SUM, looks_at
from tests.stack.installed import Installed, Launched
from tests.stack.kernel import Kernel
from tests.stack.local import until

pytestmark = pytest.mark.timeout(900)

_CLUSTER = """
from pangeo_binder_session.dask import attach
cluster = attach()
cluster.scale(1)
client = cluster.get_client()
client.wait_for_workers(1, timeout=240)
"""
_ANOTHERS = """
import aiohttp
from dask_gateway import Gateway
gateway = Gateway()
try:
    gateway.connect({name!r})
    print("connected")
except aiohttp.ClientResponseError as error:
    print([each.name for each in gateway.list_clusters()], error.status)
"""
_GONE = "pods,services,secrets,networkpolicies,ingressroutes.traefik.io,ingressroutetcps.traefik.io"


@pytest.fixture(scope="module")
def launched(installed_shared: Installed, repository: str) -> Launched:
    """A session of it."""
    return installed_shared.launch(repository)


@pytest.fixture(scope="module")
def other(installed_shared: Installed, repository: str, launched: Launched) -> Iterator[Launched]:
    """Another launch in the same namespace."""
    session = installed_shared.launch(repository)
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


def test_workers_compute_with_their_servers_image(launched: Launched, kernel: Kernel) -> None:
    assert kernel.value(SUM) == "160000.0"
    assert launched.namespace == "room-shared" and len(launched.pods("dask-worker")) == 1
    pods = launched.pods()
    assert len(pods) == 3 and "@sha256:" in _image(launched.server)
    assert {_image(pod) for pod in pods} == {_image(launched.server)}


def test_each_pod_pulls_with_its_launchs_own_login(installed_shared: Installed, launched: Launched) -> None:
    pods, login = launched.pods(), f"pull-{launched.id}"
    assert [pod["spec"].get("imagePullSecrets") for pod in pods] == [[{"name": login}]] * len(pods)
    assert login in [each["metadata"]["name"] for each in launched.objects("secrets")]
    events = installed_shared.cluster.get("events", "-n", launched.namespace)["items"]
    assert "FailedToRetrieveImagePullSecret" not in [event["reason"] for event in events]


def test_scratch_works_from_pod_and_worker(kernel: Kernel) -> None:
    assert kernel.value(SCRATCH) == "worker"


def test_another_launchs_pods_are_closed(launched: Launched, kernel: Kernel, others: Kernel) -> None:
    server = launched.server["status"]["podIP"]
    scheduler = launched.pods("dask-scheduler")[0]["status"]["podIP"]
    worker = kernel.value("print(list(client.scheduler_info()['workers'])[0])").removeprefix("tls://").rsplit(":", 1)
    places = [(server, 8888), (scheduler, 8786), (scheduler, 8787), (scheduler, 8788), tuple(worker)]
    asked = f"print([reaches(*place) for place in {places!r}])"
    assert kernel.value(asked) == str([True] * len(places))
    assert others.value(asked) == str([False] * len(places))
    assert others.value("print(reaches(socket.gethostbyname(socket.gethostname()), 8888))") == "True"


def test_another_launchs_cluster_is_closed_at_the_gateway(other: Launched, kernel: Kernel, others: Kernel) -> None:
    name = kernel.value("print(cluster.name)")
    own, status = others.value(_ANOTHERS.format(name=name)).rsplit(" ", 1)
    assert "room-shared." in own and name not in own and status == "403"


def test_another_launchs_scratch_is_closed(kernel: Kernel, others: Kernel) -> None:
    place = kernel.value("import os; print(os.environ['SCRATCH_BUCKET'].removeprefix('s3://'))")
    assert kernel.value(looks_at(place)) == "open"
    assert others.value(looks_at(place)) == "closed"


def test_the_stop_deletes_only_the_launchs_own_objects(launched: Launched, other: Launched) -> None:
    names = {each["metadata"]["name"] for each in other.objects(_GONE)}
    assert {f"{kind}-{other.id}" for kind in ("server", "session", "storage", "pull", "launch")} <= names
    launched.stop()
    until("all of it is gone", lambda: not launched.objects(_GONE), 90)
    records = launched.objects("daskclusters.gateway.dask.org")
    assert {record["status"]["phase"] for record in records} <= {"Stopped"}, "kept for some minutes, to be asked"
    assert {each["metadata"]["name"] for each in other.objects(_GONE)} >= names
    assert other.request("api/status").status == 200
