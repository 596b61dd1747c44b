"""The journey on a real cluster: a Job builds a Dockerfile repository, its session computes, and ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.stack.installed import Installed, Launched
from tests.stack.kernel import Kernel
from tests.stack.local import until

pytestmark = pytest.mark.timeout(900)

_COMPUTE = """
import os
from dask_gateway import Gateway
cluster = Gateway().connect(os.environ["DASK_GATEWAY_CLUSTER"])
cluster.scale(1)
client = cluster.get_client()
client.wait_for_workers(1, timeout=240)
import dask.array as da
print(float(da.ones((400, 400), chunks=(200, 200)).sum().compute()))
"""
_SCRATCH = """
import s3fs
def write():
    import os, s3fs
    path = os.environ["SCRATCH_BUCKET"].removeprefix("s3://") + "/from-worker"
    s3fs.S3FileSystem().pipe(path, b"worker")
    return path
path = client.submit(write).result()
print(s3fs.S3FileSystem().cat(path).decode())
"""


_WRITE = """
import json, sys
import obstore
from obstore.store import S3Store
env = json.load(sys.stdin)
names = ("access_key_id", "secret_access_key", "session_token", "region")
keys = {name: env["AWS_" + name.upper()] for name in names}
store = S3Store.from_url(
    env["SCRATCH_BUCKET"], endpoint="http://127.0.0.1:9100", client_options={"allow_http": True}, **keys
)
try:
    obstore.put(store, "tried", b"x")
    print("written")
except obstore.exceptions.BaseError as error:
    print(type(error).__name__)
"""


def _tries_to_write(installed: Installed, variables: str) -> str:
    """Return the result of writing to a launch's scratch with its variables, in the storage service's own pod."""
    command = ["exec", "-i", "-n", installed.namespace, "deploy/storage", "--", "python", "-c", _WRITE]
    return installed.cluster.kubectl(*command, stdin=variables).strip()


@pytest.fixture(scope="module")
def launched(installed: Installed, repository: str) -> Launched:
    """A session of it."""
    return installed.launch(repository)


@pytest.fixture(scope="module")
def kernel(launched: Launched) -> Iterator[Kernel]:
    """A kernel in the session."""
    with Kernel(launched) as running:
        yield running


def _image(pod: dict[str, Any]) -> str:
    return str(pod["spec"]["containers"][0]["image"])


def test_the_session_is_of_the_built_image(launched: Launched, kernel: Kernel) -> None:
    server = launched.server
    assert "@sha256:" in _image(server) and _image(server).startswith(launched.release.cluster.registry)
    assert kernel.value("print(open('answer.txt').read(), open('made').read())").split() == ["42", "sea"]


def test_the_pod_is_limited_to_its_grant_and_restricted(launched: Launched) -> None:
    server = launched.server
    container = server["spec"]["containers"][0]
    assert container["resources"]["limits"]["cpu"] == "200m", "what the repository asks for, less than its tier's"
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert server["spec"]["automountServiceAccountToken"] is False
    text = json.dumps(server)
    assert launched.token not in text and "SECRET_ACCESS_KEY" not in text and "JUPYTERHUB_API_TOKEN" not in text


def test_workers_run_the_same_image(launched: Launched, kernel: Kernel) -> None:
    assert kernel.value(_COMPUTE, 400) == "160000.0"
    images = {_image(pod) for pod in launched.pods()}
    assert len(launched.pods("dask-worker")) == 1 and images == {_image(launched.server)}


def test_scratch_works_from_pod_and_worker(launched: Launched, kernel: Kernel) -> None:
    assert kernel.value(_SCRATCH) == "worker"


def test_many_workers_are_what_the_tier_allows_with_a_sentence(kernel: Kernel) -> None:
    warned = kernel.value(
        "import warnings\nwith warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always')\n    cluster.scale(1000)\nprint(said[0].message)\ncluster.scale(1)"
    )
    assert "exceed resource limit of 2 workers" in warned


def test_a_second_cluster_is_refused_with_a_sentence_while_the_first_computes(kernel: Kernel) -> None:
    kernel.value("import time\nbusy = client.submit(time.sleep, 20)\ntime.sleep(1)")
    said = kernel.value("try:\n    Gateway().new_cluster()\nexcept ValueError as error:\n    print(error)")
    assert said.startswith("This launch may have 1 Dask cluster at a time and has 1")


def test_nothing_is_left_after_the_stop(installed: Installed, launched: Launched, kernel: Kernel) -> None:
    variables = kernel.value("import json, os; print(json.dumps(dict(os.environ)))")
    assert _tries_to_write(installed, variables) == "written"
    launched.stop()
    gone = ["get", "namespace", launched.namespace, "--ignore-not-found", "-o", "name"]
    until("the namespace is gone", lambda: not installed.cluster.kubectl(*gone).strip(), 90)
    clusters = ["get", "daskclusters.gateway.dask.org", "-A", "-o", "name"]
    assert launched.id not in installed.cluster.kubectl(*clusters)
    assert _tries_to_write(installed, variables) in ("PermissionDeniedError", "UnauthenticatedError")
