"""The package, its chart and the chart's images are of one version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pangeo_binder import __version__

CHART = Path(__file__).resolve().parent.parent / "helm-chart" / "pangeo-binder"


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
