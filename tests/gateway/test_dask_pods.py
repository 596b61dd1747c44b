"""A launch's clusters on Kubernetes use its image and namespace, and are limited like its server."""

from __future__ import annotations

import json

import pytest

from pangeo_binder.gateway.kube.backend import LaunchClusterConfig
from pangeo_binder.gateway.kube.pods import cluster_config
from pangeo_binder.gateway.options import Runtime, options_for
from pangeo_binder.kube.labels import launch_labels
from pangeo_binder.kube.placement import Placement
from pangeo_binder.kube.pods import TierPods
from pangeo_binder.model import ContainerImage, DaskGrant, Grant, Launch, Repo, RepoRef, ServerGrant, StorageGrant

GIB = 2**30
IMAGE = f"registry.example/env@sha256:{'a' * 64}"
REPO = Repo(RepoRef("git", "https://example.org/some/repo", "HEAD"), "c" * 40)


def launch(storage: bool = True, tier: str = "pangeo") -> Launch:
    dask = DaskGrant(1, 4, 8, 32 * GIB, 2, 8 * GIB, 600)
    grant = Grant(tier, "r1", "Because.", ServerGrant(1, GIB, 60, 600), dask, StorageGrant(1, 1) if storage else None)
    return Launch("abcdefghijkl", "repo-abcdefghijkl", "", REPO, ContainerImage("e", IMAGE), grant)


@pytest.mark.parametrize(
    ("placement", "namespace", "secret"),
    [
        (Placement(), "launch-abcdefghijkl", "storage"),
        (Placement("pb"), "pb-abcdefghijkl", "storage"),
        (Placement("pb", "everyone"), "everyone", "storage-abcdefghijkl"),
    ],
)
def test_everything_is_where_the_launch_is(placement: Placement, namespace: str, secret: str) -> None:
    config = cluster_config(launch(), 100.0, placement, pull_login=False)
    assert config["namespace"] == namespace
    for kind in ("scheduler", "worker"):
        reference = {"secretRef": {"name": secret, "optional": False}}
        assert config[f"{kind}_extra_container_config"]["envFrom"] == [reference]


@pytest.mark.parametrize(("shared", "secret"), [("", "pull"), ("everyone", "pull-abcdefghijkl")])
def test_pods_pull_with_their_launchs_own_login(shared: str, secret: str) -> None:
    config = cluster_config(launch(), 100.0, Placement("pb", shared), pull_login=True)
    assert config["image_pull_secrets"] == [{"name": secret}]
    assert LaunchClusterConfig(**config).image_pull_secrets == config["image_pull_secrets"]
    assert "image_pull_secrets" not in cluster_config(launch(), 100.0, Placement("pb", shared), pull_login=False)


def test_a_launch_without_storage_computes_without() -> None:
    config = cluster_config(launch(storage=False), 100.0, Placement(), pull_login=False)
    assert config["worker_extra_container_config"]["envFrom"][0]["secretRef"]["optional"] is True


def test_a_tier_says_where_its_pods_run() -> None:
    tiers = {"gpu": TierPods({"pool": "gpu"}, ({"key": "gpu", "operator": "Exists"},), "important")}
    asked = cluster_config(launch(tier="gpu"), 100.0, Placement(tiers=tiers), pull_login=False)[
        "worker_extra_pod_config"
    ]
    assert asked["nodeSelector"] == {"pool": "gpu"}
    assert asked["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert asked["priorityClassName"] == "important"
    other = cluster_config(launch(), 100.0, Placement(tiers=tiers), pull_login=False)["worker_extra_pod_config"]
    assert not {"nodeSelector", "tolerations", "priorityClassName"} & set(other)


def test_pods_are_restricted() -> None:
    config = cluster_config(launch(), 100.0, Placement(), pull_login=False)
    for kind in ("scheduler", "worker"):
        pod, container = config[f"{kind}_extra_pod_config"], config[f"{kind}_extra_container_config"]
        assert pod["automountServiceAccountToken"] is False and pod["serviceAccountName"] == "default"
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_the_configuration_of_a_cluster_knows_all_of_it() -> None:
    runtime = Runtime("python", {}, cluster_config(launch(), 100.0, Placement(), pull_login=False))
    grant = launch().grant.dask
    assert grant is not None
    options = options_for(grant, runtime, set(LaunchClusterConfig.class_trait_names()))
    config = LaunchClusterConfig(**options.get_configuration(options.parse_options({}), None))
    record = json.loads(json.dumps(config.to_dict()))
    assert record["image"] == IMAGE and record["cluster_max_workers"] == 4
    assert record["worker_cores_limit"] == record["worker_cores"] == 2
    assert record["worker_memory_limit"] == record["worker_memory"] == 8 * GIB
    assert record["scheduler_memory_limit"] == GIB and record["scheduler_cores_limit"] == 1
    assert record["launch_labels"] == launch_labels(launch()) and record["ends_at"] == 100.0
