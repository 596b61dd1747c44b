"""The package, its chart and the chart's images are of one version; the pins suit the lowest Python."""

from __future__ import annotations

import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import yaml
from packaging.specifiers import SpecifierSet

from pangeo_binder import __version__

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "helm-chart" / "pangeo-binder"


def our_tags(values: Any) -> list[str]:
    """Return the tags of all images of ours in the chart's values."""
    if not isinstance(values, dict):
        return []
    if str(values.get("name", "")).rpartition("/")[0].endswith("pangeo-binder") and "tag" in values:
        return [str(values["tag"])]
    return [tag for value in values.values() for tag in our_tags(value)]


def test_the_chart_is_of_the_packages_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (str(chart["appVersion"]), str(chart["version"])) == (__version__, __version__)


def test_the_charts_images_are_of_the_packages_version() -> None:
    tags = our_tags(yaml.safe_load((CHART / "values.yaml").read_text()))
    assert len(tags) >= 6 and set(tags) == {__version__}


def test_every_pinned_package_supports_the_lowest_python() -> None:
    """Distributions have patch releases older than the machine that made the pins: Debian 12 has 3.11.2."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lowest = f"{project['requires-python'].removeprefix('>=')}.0"
    pins = set((ROOT / "constraints.txt").read_text().split())
    pinned = [found for found in distributions() if f"{found.name.lower()}=={found.version}" in pins]
    needs = {found.name: found.metadata.get("Requires-Python") or "" for found in pinned}
    assert len(needs) > 80
    assert [name for name, need in needs.items() if lowest not in SpecifierSet(need)] == []
