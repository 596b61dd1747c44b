"""Test the series of `/metrics`: those of BinderHub under its names, bounded labels, and the list in the docs."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from pangeo_binder import binderhub_metrics, metrics
from pangeo_binder.binderhub_metrics import BINDERHUB, REPOSITORIES, _ByRepository
from tests.web.webapp import SmallLaunch, WebApp

LIST = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
UPSTREAM = {
    "binderhub_build_time_seconds": (["status"], [60, 120, 300, 600, 1800, 3600, 7200, float("inf")]),
    "binderhub_launch_time_seconds": (["status", "retries"], [2, 5, 10, 20, 30, 60, 120, 300, 600, float("inf")]),
    "binderhub_build_count": (["status", "provider", "repo"], None),
    "binderhub_launch_count": (["status", "provider", "repo"], None),
    "binderhub_inprogress_builds": ([], None),
    "binderhub_inprogress_launches": ([], None),
    "binderhub_github_rate_limit_remaining": ([], None),
}
"""BinderHub's series with their labels and buckets, from binderhub/builder.py and binderhub/repoproviders.py."""
ALL = [
    each
    for module in (binderhub_metrics, metrics)
    for each in vars(module).values()
    if isinstance(each, MetricWrapperBase)
]


def described(series: MetricWrapperBase) -> str:
    (metric,) = series.describe()
    name = metric.name + ("_total" if metric.type == "counter" else "")
    labels = ", ".join(f"`{label}`" for label in series._labelnames)
    return f"| `{name}` | {metric.type} | {labels} | {metric.documentation} |"


def test_binderhubs_series_have_its_labels_and_buckets() -> None:
    found = {}
    for series in ALL:
        (metric,) = series.describe()
        if metric.name.startswith("binderhub_"):
            found[metric.name] = (list(series._labelnames), series._kwargs.get("buckets"))
    names_and_labels = {name: labels for name, (labels, _) in found.items()}
    assert names_and_labels == {name: labels for name, (labels, _) in UPSTREAM.items()}
    for name in ("binderhub_build_time_seconds", "binderhub_launch_time_seconds"):
        (series,) = [each for each in ALL if each.describe()[0].name == name]
        assert list(series._upper_bounds) == UPSTREAM[name][1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("series", ALL, ids=lambda series: series.describe()[0].name)
def test_the_docs_list_every_series(series: MetricWrapperBase) -> None:
    assert described(series) in LIST.read_text().splitlines(), f"add to {LIST.name}: {described(series)}"


def test_the_docs_list_no_other_series() -> None:
    rows = [row for row in LIST.read_text().splitlines() if row.startswith("| `")]
    assert sorted(rows) == sorted(described(series) for series in ALL)


async def test_the_binder_shows_them(web: WebApp, http: aiohttp.ClientSession) -> None:
    binderhub_metrics.LAUNCHES_BY_REPOSITORY.inc("success", "gh", "https://example.org/sea")
    async with http.get(web.start(SmallLaunch([])) + "/metrics") as response:
        text = await response.text()
    sample = 'binderhub_launch_count_total{provider="GitHub",repo="https://example.org/sea",status="success"} '
    assert sample in text and "pangeo_binder_launches_in_progress" in text
    kinds = [line for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(kinds) == len(set(kinds))


def test_no_number_of_repositories_fills_a_scrape() -> None:
    counter = Counter("binderhub_test_count", "For this test.", ["status", "provider", "repo"], registry=None)
    counts = _ByRepository(counter)
    for number in range(REPOSITORIES + 10):
        counts.inc("failure", "git", f"https://example.org/{number}" + "x" * 1000)
        counts.inc("success", "git", "https://example.org/kept")
    samples = [each for each in counter.collect()[0].samples if each.name.endswith("_total")]
    assert len(samples) == REPOSITORIES and max(len(each.labels["repo"]) for each in samples) == 200
    (kept,) = [each for each in samples if each.labels["repo"].endswith("/kept")]
    assert kept.value == REPOSITORIES + 10


def test_binderhubs_registry_is_its_own() -> None:
    assert BINDERHUB.get_sample_value("binderhub_inprogress_builds") is not None
