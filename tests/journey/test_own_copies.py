"""What a session writes, edits and installs stays its own, also for its workers; it has a clone of the repository."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.kernel import Kernel
from tests.stack.local import LocalStack
from tests.stack.repository import repository

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

PROJECT = """
[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "{version}"
"""
FILES = {
    "requirements.txt": "-e .\nsetuptools\n",
    "pyproject.toml": PROJECT.format(name="mypkg", version="1.0"),
    "src/mypkg/__init__.py": "VALUE = 'original'\n",
    **{f"other/{version}/pyproject.toml": PROJECT.format(name="other", version=version) for version in ("1.0", "2.0")},
    **{f"other/{version}/other.py": f"VALUE = {version}\n" for version in ("1.0", "2.0")},
}
WHERE = "import mypkg, os; print(os.path.relpath(mypkg.__file__, os.path.expanduser('~')), mypkg.VALUE)"
EDIT = """
import pathlib, mypkg
pathlib.Path(mypkg.__file__).with_name("left.py").write_text("")
pathlib.Path("~/src/mypkg/__init__.py").expanduser().write_text("VALUE = 'edited'\\n")
"""
ON_WORKER = """
import os
from dask_gateway import Gateway
client = Gateway().connect(os.environ["DASK_GATEWAY_CLUSTER"]).get_client()
def where():
    import mypkg
    return mypkg.__file__, mypkg.VALUE
file, value = client.submit(where).result(timeout=120)
print(os.path.relpath(file, os.path.expanduser("~")), value)
"""


@pytest.fixture(scope="module")
def kernels(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kernel, Kernel]]:
    """Kernels of two launches of one commit, the child of the tag v1.2."""
    folder = tmp_path_factory.mktemp("repository")
    repo = repository(folder, FILES)
    author = ["-c", "user.name=tests", "-c", "user.email=tests@example.invalid"]
    for command in (["tag", "-a", "v1.2", "-m", "v1.2"], ["commit", "-q", "--allow-empty", "-m", "Second"]):
        subprocess.run(["git", *author, *command], cwd=folder, check=True)
    sessions = [stack.launch(repo) for _ in range(2)]
    with Kernel(sessions[0]) as one, Kernel(sessions[1]) as other:
        yield one, other
    for session in sessions:
        session.stop()


def test_a_session_has_the_repositorys_clone(kernels: tuple[Kernel, Kernel]) -> None:
    assert kernels[0].value("!git describe").startswith("v1.2-1-g")
    status = kernels[0].value("!git -c color.ui=never status --short --branch").splitlines()
    assert status == ["## main...origin/main", "?? src/mypkg.egg-info/"], "setuptools made the folder"


def test_what_a_session_writes_beside_its_code_is_not_in_another(kernels: tuple[Kernel, Kernel]) -> None:
    one, other = kernels
    assert one.value(WHERE) == other.value(WHERE) == "src/mypkg/__init__.py original"
    one.value(EDIT)
    assert one.value(f'!python -c "{WHERE}"') == "src/mypkg/__init__.py edited"
    assert other.value(f'!python -c "{WHERE}"') == "src/mypkg/__init__.py original"
    assert other.value("import importlib.util; print(importlib.util.find_spec('mypkg.left'))") == "None"


def test_workers_import_the_code_of_their_own_session(kernels: tuple[Kernel, Kernel]) -> None:
    one, other = kernels
    assert one.value(ON_WORKER, seconds=200) == "src/mypkg/__init__.py edited"
    assert other.value(ON_WORKER, seconds=200) == "src/mypkg/__init__.py original"


def test_sessions_install_different_versions(kernels: tuple[Kernel, Kernel]) -> None:
    for kernel, version in zip(kernels, ("1.0", "2.0"), strict=True):
        kernel.value(f"%pip install -q --no-build-isolation --no-index other/{version}")
    for kernel, version in zip(kernels, ("1.0", "2.0"), strict=True):
        assert kernel.value("import other; print(other.VALUE)") == version


def test_no_session_can_write_what_all_share(stack: LocalStack, kernels: tuple[Kernel, Kernel]) -> None:
    """By the mode: the tests may run as root, who can write everywhere."""
    shared = Path(kernels[0].value("import jupyter_server as s; print(s.__path__[0])")).parent
    assert shared.is_relative_to(stack.state_dir / "cache")
    for path in (shared, shared.parents[2] / "bin", shared.parents[2] / "bin/jupyter", shared.parents[3] / "checkout"):
        assert not path.stat().st_mode & 0o222, path
