"""Where a launch's objects are, and what strangers can write into their annotations."""

from __future__ import annotations

import pytest

from pangeo_binder.kube.labels import launch_annotations, launch_labels
from pangeo_binder.kube.placement import Placement
from pangeo_binder.kube.pods import TierPods
from tests.kube.kubelaunch import a_launch


def test_each_launch_has_a_namespace_of_its_own() -> None:
    launch, placement = a_launch(), Placement("pb")
    assert placement.namespace(launch) == f"pb-{launch.id}" and placement.secret("storage", launch) == "storage"


def test_in_a_shared_namespace_names_contain_the_launch() -> None:
    launch, placement = a_launch(), Placement(shared="together")
    assert placement.namespace(launch) == "together" and placement.secret("pull", launch) == f"pull-{launch.id}"


def test_a_tier_without_an_entry_has_the_clusters_defaults() -> None:
    gpu = TierPods({"pool": "gpu"})
    assert Placement(tiers={"small": gpu}).pods(a_launch()) == gpu
    assert Placement(tiers={"gpu": gpu}).pods(a_launch()).spec() == {}


def test_labels_name_the_launch_and_its_tier() -> None:
    launch = a_launch()
    labels = launch_labels(launch)
    assert (labels["pangeo-binder/launch"], labels["pangeo-binder/tier"]) == (launch.id, "small")


@pytest.mark.parametrize("text", ["a\u202eb", "a\u2028b", "a\x1b[31mb", "a\u200bb", "a\ud800b"])
def test_nothing_invisible_is_in_an_annotation(text: str) -> None:
    annotation = launch_annotations(a_launch(f"https://example.org/{text}"))["pangeo-binder/repo"]
    assert annotation.isprintable() and "?" in annotation


def test_texts_of_strangers_are_bounded_and_of_one_line() -> None:
    annotations = launch_annotations(a_launch("https://example.org/\n{username}\x00" + "x" * 5000))
    assert annotations["pangeo-binder/repo"].startswith("https://example.org/?{username}?x")
    assert len(annotations["pangeo-binder/repo"]) == 500
