"""The contracts between modules are kept by import-linter: each kind of forbidden import makes it fail."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINTER = Path(sys.executable).with_name("lint-imports")

FORBIDDEN = {
    # processes never import one another
    "hub/roles.py": "pangeo_binder.storage.service",
    "gateway/auth.py": "pangeo_binder.storage.launches",
    "launch/stages.py": "pangeo_binder.hub.roles",
    "storage/reaper.py": "pangeo_binder.gateway.options",
    # nothing is imported from above
    "names.py": "pangeo_binder.model",
    "kube/pods.py": "pangeo_binder.builders.base",
    "storage/quota.py": "pangeo_binder.storage.service",
    # drivers of one kind do not know each other
    "builders/venv/store.py": "pangeo_binder.builders.kube.builder",
    "hub/local/spawner.py": "pangeo_binder.hub.kube.manifests",
    "hub/dask/gateway.py": "pangeo_binder.hub.dask.operator.keys",
    "gateway/local.py": "pangeo_binder.gateway.kube.pods",
    "storage/s3/remote.py": "pangeo_binder.storage.s3.directory",
    "deploy/kube/hub.py": "pangeo_binder.deploy.local.hub",
    # each framework is known to one process, and to nobody who only configures or starts it
    "cli/up.py": "binderhub",
    "deploy/local/hub.py": "jupyterhub",
    "cli/status.py": "kubespawner",
    "web/pages.py": "dask_gateway_server",
    "model.py": "kubernetes_asyncio",
    # pure modules do no I/O
    "policy/request.py": "aiohttp",
    "hub/kube/settings.py": "subprocess",
}
"""An import of each forbidden kind, by the file that gets it."""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package and its contracts, in a folder of the tests' own."""
    if not LINTER.exists():
        pytest.skip("import-linter is not installed: run `make lint` once")
    folder = tmp_path_factory.mktemp("imports")
    shutil.copytree(ROOT / "pangeo_binder", folder / "pangeo_binder", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def _lint(folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-P", str(LINTER), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_every_forbidden_import_is_found(copied: Path) -> None:
    for name, module in FORBIDDEN.items():
        path = copied / "pangeo_binder" / name
        path.write_text(f"{path.read_text()}\nimport {module}\n")
    code, report = _lint(copied)
    assert code == 1
    importers = {name: f"pangeo_binder.{name.removesuffix('.py').replace('/', '.')}" for name in FORBIDDEN}
    missed = [name for name, module in FORBIDDEN.items() if f"{importers[name]} -> {module} " not in report]
    assert missed == []


def test_a_new_module_has_to_be_given_a_layer(copied: Path) -> None:
    (copied / "pangeo_binder" / "extra.py").write_text('"""A module nobody placed."""\n')
    code, report = _lint(copied)
    assert code == 1 and "extra" in report


def _pure_modules() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    modules: list[str] = next(each for each in contracts if each["id"] == "pure")["source_modules"]
    return modules


def test_every_module_that_says_it_is_pure_is_held_to_it() -> None:
    listed = set(_pure_modules())
    for path in sorted((ROOT / "pangeo_binder").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        says = re.search(r"\bpure\b", ast.get_docstring(ast.parse(path.read_text())) or "", re.IGNORECASE)
        within = any(module == each or module.startswith(f"{each}.") for each in listed)
        assert not says or within, f"{module} says that it is pure and is not in the contract"


def test_the_contract_of_pure_modules_names_no_other() -> None:
    for module in _pure_modules():
        path = ROOT.joinpath(*module.split("."))
        text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
        assert re.search(r"\bpure\b", text, re.IGNORECASE), f"{module} does not say that it is pure"
