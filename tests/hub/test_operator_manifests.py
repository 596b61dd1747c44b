"""The operator's objects are within the grant, contain no secret, and keep the operator from launched code."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangeo_binder.dask_start import scheduler_command, worker_command
from pangeo_binder.hub.dask.operator.keys import new_keys
from pangeo_binder.hub.dask.operator.manifests import (
    KEYS_SECRET,
    OperatorSettings,
    dask_autoscaler,
    dask_cluster,
    keys_secret,
    limits_of,
    operator_policy,
    session_variables,
)
from pangeo_binder.kube.placement import Placement
from pangeo_binder.kube.pods import TierPods
from pangeo_binder.model import ContainerImage, DaskGrant, Grant, Launch, Repo, RepoRef, ServerGrant, StorageGrant

GIB = 2**30
DASK = DaskGrant(1, workers=6, cores=12, memory_bytes=48 * GIB, worker_cores=2, worker_memory_bytes=8 * GIB,
                 idle_seconds=600, start_workers=2)  # fmt: skip
GRANT = Grant("small", "r1", "Rule 1.", ServerGrant(1, GIB, 600, 3600), DASK)
ENVIRONMENT = ContainerImage("sea", "environments/sea@sha256:" + "a" * 64)
REPO = Repo(RepoRef("git", "https://example.org/sea", "main"), "a" * 40)
LAUNCH = Launch("abcdefghijkl", "sea-abcdefghijkl", "", REPO, ENVIRONMENT, GRANT)
TIERS = {"small": TierPods({"pool": "dask"}, ({"operator": "Exists"},), "low")}
SETTINGS = OperatorSettings(Placement(tiers=TIERS))


def granted(**dask: Any) -> Launch:
    return replace(LAUNCH, grant=replace(GRANT, dask=replace(DASK, **dask)))


def pods(launch: Launch = LAUNCH, settings: OperatorSettings = SETTINGS) -> dict[str, Any]:
    """Return the pods' specs by their role."""
    spec = dask_cluster(launch, settings)["spec"]
    return {role: spec[role]["spec"] for role in ("scheduler", "worker")}


@given(st.integers(1, 4), st.integers(1, 50), st.floats(1, 100), st.integers(1, 200), st.integers(0, 100))
def test_however_large_it_grows_it_is_within_the_grant(clusters, workers, cores, memory, start):
    launch = granted(clusters=clusters, workers=workers, cores=cores, memory_bytes=memory * GIB, start_workers=start)
    most = dask_autoscaler(launch)["spec"]["maximum"]
    assert most <= workers and most * 2 <= cores and most * 8 <= memory
    assert 0 <= dask_autoscaler(launch)["spec"]["minimum"] <= most
    assert dask_cluster(launch, SETTINGS)["spec"]["worker"]["replicas"] <= most


def test_the_one_cluster_may_have_what_several_would_share():
    assert limits_of(replace(DASK, clusters=3)).workers == 6


def test_a_worker_has_its_share_and_no_more():
    (worker,) = pods()["worker"]["containers"]
    size = {"cpu": "2000m", "memory": str(8 * GIB)}
    assert worker["resources"] == {"requests": size, "limits": size}
    assert {"--nthreads=2", f"--memory-limit={8 * GIB}", "--protocol=tls"} < set(worker["args"])
    assert dask_cluster(LAUNCH, SETTINGS)["spec"]["idleTimeout"] == 600


@pytest.mark.parametrize("role", ["scheduler", "worker"])
def test_pods_run_the_sessions_image_and_may_do_little(role):
    pod = pods()[role]
    (container,) = pod["containers"]
    assert container["image"] == ENVIRONMENT.reference
    command = {"scheduler": scheduler_command, "worker": worker_command}[role]("python")
    assert container["args"][:3] == command
    assert not [each for each in command if "$(" in each], "Kubernetes would replace a name in parentheses"
    assert pod["automountServiceAccountToken"] is False and pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert (pod["nodeSelector"], pod["priorityClassName"]) == ({"pool": "dask"}, "low")
    assert "imagePullSecrets" not in pod
    assert pods(settings=replace(SETTINGS, pull_login=True))[role]["imagePullSecrets"] == [{"name": "pull"}]


@pytest.mark.parametrize("storage", [None, StorageGrant(GIB, 3600)])
def test_pods_wait_for_the_secrets_they_need(storage):
    launch = replace(LAUNCH, grant=replace(GRANT, storage=storage))
    for pod in pods(launch).values():
        secrets = {each["secretRef"]["name"]: each["secretRef"]["optional"] for each in pod["containers"][0]["envFrom"]}
        assert secrets == {"storage": storage is None, KEYS_SECRET: False}


def test_the_operator_finds_no_port_to_unpickle_from():
    service = dask_cluster(LAUNCH, SETTINGS)["spec"]["scheduler"]["service"]
    named = {each["name"]: each["port"] for each in service["ports"]}
    assert named == {"comm": 8786, "http-dashboard": 8787}
    assert "tcp-comm" not in json.dumps(dask_cluster(LAUNCH, SETTINGS))
    launch, operator = operator_policy(LAUNCH, SETTINGS)["spec"]["ingress"]
    assert operator["ports"] == [{"port": 8787, "protocol": "TCP"}]
    assert launch == {"from": [{"podSelector": {"matchLabels": {"pangeo-binder/launch": LAUNCH.id}}}]}


def test_keys_are_only_in_the_secret():
    keys = new_keys(3600)
    variables = session_variables(LAUNCH, SETTINGS, keys)
    assert variables["DASK_SCHEDULER_ADDRESS"] == "tls://dask-abcdefghijkl-scheduler.launch-abcdefghijkl:8786"
    assert keys.items() <= variables.items() and keys_secret(LAUNCH, keys)["stringData"] == dict(keys)
    assert "PRIVATE KEY" in str(variables) and "PRIVATE KEY" not in json.dumps(dask_cluster(LAUNCH, SETTINGS))


def test_no_two_clusters_have_the_same_keys():
    assert not set(new_keys(60).values()) & set(new_keys(60).values())


def test_all_objects_have_the_launchs_labels():
    for made in (dask_cluster(LAUNCH, SETTINGS), dask_autoscaler(LAUNCH), keys_secret(LAUNCH, {})):
        labels = made["metadata"]["labels"]
        assert (labels["pangeo-binder/launch"], labels["pangeo-binder/tier"]) == (LAUNCH.id, "small")


def test_a_shared_namespace_is_refused():
    with pytest.raises(ValueError, match="a namespace for each launch"):
        OperatorSettings(Placement(shared="together"))
