"""What a repository's own files do in its session, server and workers alike: modules, paths, what postBuild left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stack.kernel import Kernel
from tests.stack.local import LocalStack, Session
from tests.stack.repository import repository

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

SHADOWS = ("random", "signal", "socket")
"""Modules of the standard library that Jupyter, Dask and multiprocessing import."""
FILES = {
    **{f"{name}.py": f"raise SystemExit('the repository has its own {name}')\n" for name in SHADOWS},
    "requirements.txt": "",
    "heat.py": "def scaled(x):\n    return x * 10\n",
    "data/ocean.txt": "18\n",
}
CLUSTER = """
import os
from dask_gateway import Gateway
cluster = Gateway().connect(os.environ["DASK_GATEWAY_CLUSTER"])
client = cluster.get_client()
client.wait_for_workers(1, timeout=120)
"""


@pytest.fixture(scope="module")
def session(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Session:
    return stack.launch(repository(tmp_path_factory.mktemp("repository"), FILES))


@pytest.fixture(scope="module")
def kernel(session: Session) -> Iterator[Kernel]:
    with Kernel(session) as running:
        yield running


@pytest.fixture(scope="module")
def client(kernel: Kernel) -> Kernel:
    """The kernel, in which `client` is one of the session's cluster."""
    kernel.value(CLUSTER, seconds=180)
    return kernel


def test_a_module_named_like_a_standard_one_does_not_stop_the_server(kernel: Kernel) -> None:
    assert kernel.value("import heat, random; print(heat.scaled(4), random.__file__ != 'random.py')") == "40 True"


def test_workers_import_the_modules_of_the_repository(client: Kernel) -> None:
    assert client.value("print(client.submit(heat.scaled, 4).result())") == "40"


def test_workers_open_the_files_of_the_repository(client: Kernel) -> None:
    read = "import pathlib\nprint(client.submit(lambda: pathlib.Path('data/ocean.txt').read_text().strip()).result())"
    assert client.value(read) == "18"


def test_workers_of_a_cluster_that_the_user_makes_do_too(client: Kernel) -> None:
    code = (
        "client.close(); cluster.shutdown()\n"
        "cluster = Gateway().new_cluster(); cluster.scale(1)\n"
        "client = cluster.get_client()\n"
        "print(client.submit(heat.scaled, 5).result(timeout=120))"
    )
    assert client.value(code, seconds=240) == "50"
