"""Addresses that a session on a real cluster cannot reach; each test shows that another pod can reach them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.stack.installed import Installed, Launched
from tests.stack.kernel import Kernel
from tests.stack.local import until

pytestmark = pytest.mark.timeout(900)

METADATA = "169.254.169.254"
INTERNET = "198.51.100.7"
"""An address of the internet (RFC 5737), which the node has."""
_REACH = """
import socket
def reaches(host, port):
    try:
        socket.create_connection((host, port), timeout=4).close()
        return True
    except OSError:
        return False
"""


@pytest.fixture(scope="module")
def other(installed: Installed, repository: str) -> Launched:
    """Another launch, as of another person."""
    return installed.launch(repository)


@pytest.fixture(scope="module")
def kernel(installed: Installed, repository: str, other: Launched) -> Iterator[Kernel]:
    """A kernel in the first session."""
    session = installed.launch(repository)
    with Kernel(session) as running:
        running.value(_REACH)
        yield running
    session.stop()
    other.stop()


@pytest.fixture(scope="module")
def outsider(installed: Installed) -> Iterator[str]:
    """A pod without a policy; stand-ins on the node for a cloud's metadata service and a server of the internet."""
    cluster = installed.cluster
    for address in (METADATA, INTERNET):
        assert cluster.inside("ip", "addr", "add", f"{address}/32", "dev", "lo").wait() == 0
    serving = [
        cluster.inside(sys.executable, "-m", "http.server", port, "--bind", address, "--directory", "/var/log")
        for address, port in ((METADATA, "80"), *((INTERNET, port) for port in ("80", "25", "22")))
    ]
    command = ["--command", "--", "sleep", "3600"]
    cluster.kubectl("run", "outsider", f"--image={installed.notebook}", "-n", "default", *command)
    cluster.kubectl("wait", "pod/outsider", "-n", "default", "--for=condition=Ready", "--timeout=180s")
    yield "outsider"
    cluster.kubectl("delete", "pod", "outsider", "-n", "default", "--grace-period=0", "--force", check=False)
    for each in serving:
        each.kill()
        each.wait()


def _pod_reaches(installed: Installed, namespace: str, pod: str, host: str, port: int) -> bool:
    code = f"{_REACH}\nprint(reaches({host!r}, {port}))"
    command = ["exec", "-n", namespace, pod, "--", "python", "-c", code]
    return installed.cluster.kubectl(*command).strip() == "True"


def _outsider_reaches(installed: Installed, host: str, port: int) -> bool:
    return _pod_reaches(installed, "default", "outsider", host, port)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        (METADATA, 80),
        ("kubernetes.default.svc.cluster.local", 443),
    ],
)
def test_the_clusters_own_addresses_are_closed(
    installed: Installed, kernel: Kernel, outsider: str, host: str, port: int
) -> None:
    until(f"somebody reaches {host}", lambda: _outsider_reaches(installed, host, port), 60)
    assert kernel.value(f"print(reaches({host!r}, {port}))") == "False"


@pytest.mark.parametrize(("port", "opened"), [(80, True), (25, False), (22, False)])
def test_of_the_internet_only_listed_ports_are_open(
    installed: Installed, kernel: Kernel, outsider: str, port: int, opened: bool
) -> None:
    until(f"somebody reaches port {port}", lambda: _outsider_reaches(installed, INTERNET, port), 60)
    assert kernel.value(f"print(reaches({INTERNET!r}, {port}))") == str(opened)
    assert _pod_reaches(installed, "binder", "deploy/binder", INTERNET, port) is opened


def test_the_api_server_and_the_kubelet_are_closed(installed: Installed, kernel: Kernel, outsider: str) -> None:
    cluster = installed.cluster
    for host, port in ((cluster.host, cluster.port), (cluster.address, 10250)):
        assert _outsider_reaches(installed, host, port)
        assert kernel.value(f"print(reaches({host!r}, {port}))") == "False"


def test_another_launchs_pods_are_closed(kernel: Kernel, other: Launched) -> None:
    address, own = other.server["status"]["podIP"], "socket.gethostbyname(socket.gethostname())"
    assert kernel.value(f"print(reaches({own}, 8888), reaches({address!r}, 8888))") == "True False"
    until("its scheduler runs", lambda: other.pods("dask-scheduler")[0]["status"].get("podIP"), 120)
    scheduler = other.pods("dask-scheduler")[0]["status"]["podIP"]
    for port in (8786, 8787, 8788):
        assert kernel.value(f"print(reaches({scheduler!r}, {port}))") == "False"


def test_storage_is_open_for_data_and_closed_for_administration(kernel: Kernel) -> None:
    data, admin = "storage.binder.svc.cluster.local", "storage-admin.binder.svc.cluster.local"
    assert kernel.value(f"print(reaches({data!r}, 9100), reaches({admin!r}, 9101))") == "True False"


def test_of_the_release_only_what_a_session_needs_is_open(installed: Installed, kernel: Kernel) -> None:
    services = [("binder", 80), ("proxy-api", 8001), ("proxy-public", 80), ("storage-admin", 9101)]
    closed = [(f"{name}.binder.svc.cluster.local", port) for name, port in services]
    assert kernel.value("print(reaches('hub.binder.svc.cluster.local', 8081))") == "True"
    resolved = f"print(len([socket.gethostbyname(name) for name, _ in {closed!r}]))"
    assert kernel.value(resolved) == str(len(closed)), "they are closed, not unknown"
    # it has no Service; that it is ready says that the kubelet reaches it
    selector = "--selector=app.kubernetes.io/component=dask-controller"
    (controller,) = installed.cluster.get("pods", "-n", installed.namespace, selector)["items"]
    assert {"type": "Ready", "status": "True"}.items() <= _condition(controller, "Ready").items()
    closed.append((controller["status"]["podIP"], 8000))
    assert kernel.value(f"print([reaches(*each) for each in {closed!r}])") == str([False] * len(closed))


def _condition(pod: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = [each for each in pod["status"]["conditions"] if each["type"] == kind]
    return dict(found)


def test_strangers_addresses_lead_the_binder_to_nothing_of_the_clusters(installed: Installed, outsider: str) -> None:
    cluster = installed.cluster
    for host, port in ((METADATA, 80), (cluster.address, 10250)):
        until(f"somebody reaches {host}", lambda at=(host, port): _outsider_reaches(installed, *at), 60)
        assert not _pod_reaches(installed, "binder", "deploy/binder", host, port), host
    for host, port in ((cluster.host, cluster.port), ("hub", 8081), ("storage-admin", 9101)):
        assert _pod_reaches(installed, "binder", "deploy/binder", host, port), host


def test_a_session_has_no_token_of_the_cluster(kernel: Kernel) -> None:
    look = "import os; print(os.path.exists('/var/run/secrets/kubernetes.io'), os.getuid())"
    assert kernel.value(look) == "False 1000"


def test_a_session_cannot_become_root_or_open_the_node(kernel: Kernel) -> None:
    held = kernel.value("print(open('/proc/self/status').read())")
    status = dict(line.split(":\t", 1) for line in held.splitlines() if ":\t" in line)
    assert (status["NoNewPrivs"], status["CapEff"].strip("0"), status["CapBnd"].strip("0")) == ("1", "", "")
    assert status["Seccomp"] == "2"


def test_another_launchs_scratch_is_closed(kernel: Kernel, other: Launched) -> None:
    attempt = (
        "import s3fs\ntry:\n    s3fs.S3FileSystem().ls('scratch/" + other.id + "')\n    print('open')\n"
        "except PermissionError:\n    print('closed')"
    )
    assert kernel.value(attempt) == "closed"
