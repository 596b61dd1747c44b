"""The chart's values: generated files are current, examples are valid, and errors name the wrong key."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from pangeo_binder.errors import PolicyInvalid
from pangeo_binder.policy.load import load_policy_in_values
from tests.chart.conftest import CONNECTED, HERE, ROOT, Helm
from tests.stack.local import COMMAND

EXAMPLES = sorted((ROOT / "helm-chart" / "examples").glob("*.yaml"))
INVALID = sorted((HERE / "invalid").glob("*.yaml"))
NAMED = [pytest.param(path, id=path.stem) for path in EXAMPLES]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """Return the generator, which is not in a package."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "helm-chart" / "tools" / "reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_schema_and_the_reference_are_current(tool: ModuleType) -> None:
    assert tool.SCHEMA_JSON.read_text() == tool.schema_json(), "run helm-chart/tools/reference.py"
    assert tool.REFERENCE.read_text() == tool.reference(), "run helm-chart/tools/reference.py"


def _parts(schema: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        yield at, schema
        for key, value in schema.items():
            yield from _parts(value, f"{at}/{key}")


def test_our_values_accept_only_described_keys(tool: ModuleType) -> None:
    parts = [(at, part) for at, part in _parts(tool.schema()) if isinstance(part.get("properties"), dict)]
    assert len(parts) > 20
    assert [at for at, part in parts if part.get("additionalProperties") is not False] == []
    reference = tool.REFERENCE.read_text()
    defaults = yaml.safe_load((ROOT / "helm-chart" / "pangeo-binder" / "values.yaml").read_text())
    undocumented = [f"`{top}.{key}`" for top, part in defaults.items() if isinstance(part, dict) for key in part]
    theirs = ("`jupyterhub.", "`dask-gateway.")
    assert [key for key in undocumented if key not in reference and not key.startswith(theirs)] == []
    assert not re.search(r"\|  \|$", reference, re.MULTILINE), "a key without a description"


@pytest.mark.parametrize("example", NAMED)
def test_an_example_fits_the_schema_and_its_policy_is_right(example: Path, tool: ModuleType) -> None:
    import jsonschema  # here, because importing it compiles grammars for seconds

    jsonschema.validate(yaml.safe_load(example.read_text()), tool.schema())
    assert load_policy_in_values(example).tiers


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in INVALID])
def test_an_error_names_the_wrong_key(path: Path, helm: Helm, tmp_path: Path) -> None:
    expected = path.read_text().splitlines()[0].removeprefix("# ")
    base = [] if "'policy'" in expected else ["-f", EXAMPLES[-1]]
    done = helm.run("template", "binder", helm.chart, "--kube-version", "1.34.0", "-f", CONNECTED, *base, "-f", path)
    assert done.returncode != 0
    assert expected in done.stderr


REGISTRIES = {
    "in the cluster": ("registry.namespace=registry", "registry.pushAddress=registry.registry:5000"),
    "in networks of ours": ("registry.networks={10.20.0.0/28}",),
    "without TLS": ("registry.plainHttp=true", "registry.address=127.0.0.1:30500"),
    "with a login for reading": ("registry.readSecret=registry-read",),
    "without the key": ("registry.pushSecret=null",),
}


@pytest.mark.parametrize("changes", [(), ("--is-upgrade",)], ids=["install", "upgrade"])
@pytest.mark.parametrize("values", REGISTRIES.values(), ids=REGISTRIES)
def test_every_registry_needs_a_password_for_pushing(
    values: tuple[str, ...], changes: tuple[str, ...], helm: Helm
) -> None:
    common = (
        "template",
        "binder",
        helm.chart,
        "--kube-version",
        "1.34.0",
        "-f",
        CONNECTED,
        "-f",
        EXAMPLES[0],
        *changes,
    )
    others = [part for value in values for part in ("--set", value)]
    done = helm.run(*common, "--set", "registry.pushSecret=", *others)
    assert done.returncode != 0 and "registry.pushSecret: name the Secret with which builds push" in done.stderr
    done = helm.run(*common, *others, "--set", "registry.pushSecret=registry-push")
    assert done.returncode == 0, done.stderr


def test_an_old_cluster_is_refused(helm: Helm) -> None:
    done = helm.run("template", "binder", helm.chart, "--kube-version", "1.29.0", "-f", EXAMPLES[0])
    assert done.returncode != 0
    assert "kubeVersion: >=1.30.0-0" in done.stderr


def _check(path: Path) -> subprocess.CompletedProcess[str]:
    command = [COMMAND, "check", "--values", path]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_checks_the_policy_in_values_and_reports_lines_of_that_file(tmp_path: Path) -> None:
    good = _check(EXAMPLES[0])
    assert good.returncode == 0 and "no problems" in good.stdout
    path = tmp_path / "values.yaml"
    text = (ROOT / "helm-chart" / "examples" / "single-node.yaml").read_text()
    path.write_text(text.replace("cpu: 0.5,", "cpu: much,").replace("tier: small", "tier: smal"))
    bad = _check(path)
    assert bad.returncode == 1
    lines = path.read_text().splitlines()
    reported = [int(line.split(":")[1]) for line in bad.stdout.splitlines()[:2]]
    assert ["cpu: much" in lines[reported[0] - 1], "tier: smal" in lines[reported[1] - 1]] == [True, True]


@pytest.mark.parametrize("text", ["binder: {}\n", "- policy\n", "", "policy: {tiers: {a: *b}}\n", "policy: {\n"])
def test_values_without_a_readable_policy_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(text)
    with pytest.raises(PolicyInvalid, match=r"values.yaml:\d"):
        load_policy_in_values(path)
