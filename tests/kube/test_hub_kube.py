"""The hub creates and deletes a launch's objects on a real API server, with only its rights of a release."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pangeo_binder.errors import SpawnFailed
from pangeo_binder.hub.kube.launch_objects import LaunchObjects
from pangeo_binder.hub.kube.namespace_reaper import NamespaceReaper, OwnNamespaces
from pangeo_binder.kube.api import KubeApi
from pangeo_binder.kube.pods import restricted_container, restricted_pod
from pangeo_binder.model import Launch
from tests.kube.kubelaunch import a_launch, some_settings
from tests.stack.control_plane import ControlPlane
from tests.stack.local import until

_RBAC = "rbac.authorization.k8s.io"
_POLICIES = {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["create", "delete"]}
_RULES: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "create", "delete"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "delete"]},
    {"apiGroups": [""], "resources": ["resourcequotas", "limitranges"], "verbs": ["create"]},
    {"apiGroups": [_RBAC], "resources": ["rolebindings"], "verbs": ["create"]},
    {"apiGroups": [_RBAC], "resources": ["clusterroles"], "resourceNames": ["launch-gateway"], "verbs": ["bind"]},
]


def _account(plane: ControlPlane, name: str, rules: list[dict[str, Any]]) -> str:
    subject = {"kind": "ServiceAccount", "name": name, "namespace": "binder"}
    plane.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "binder"}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "binder"}},
        {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": "launch-gateway"}, "rules": []},
        {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name},
            "subjects": [subject],
        },
    )
    return str(plane.kubeconfig_for(f"binder/{name}"))


@pytest.fixture
async def api(control_plane: ControlPlane) -> AsyncIterator[KubeApi]:
    """The API server with the hub's own rights."""
    api = KubeApi(_account(control_plane, "hub", [*_RULES, _POLICIES]))
    yield api
    await api.close()


def _names(plane: ControlPlane, kinds: str, namespace: str) -> set[str]:
    found = plane.kubectl("get", kinds, "-n", namespace, "-o", "name").split()
    return {name for name in found if "default" not in name and "kube-root-ca" not in name}


def _exists(plane: ControlPlane, launch: Launch) -> bool:
    found = plane.kubectl("get", "namespace", f"launch-{launch.id}", "--ignore-not-found", "-o", "json")
    return bool(found.strip()) and "deletionTimestamp" not in json.loads(found)["metadata"]


def _server(launch: Launch, **changes: Any) -> dict[str, Any]:
    size = {"cpu": "500m", "memory": "1Gi"}
    container = {"name": "c", "image": "x", **restricted_container(), "resources": {"limits": size, **changes}}
    meta = {"name": "server", "namespace": f"launch-{launch.id}"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {**restricted_pod(), "containers": [container]},
    }


async def test_everything_that_bounds_a_launch_is_there_before_its_pod(
    control_plane: ControlPlane, api: KubeApi
) -> None:
    launch, objects = a_launch(), LaunchObjects(some_settings(), api)
    await objects.make(launch)
    await objects.make(launch)  # the hub repeats a request whose answer was lost
    await objects.keep("session", launch, {"TOKEN": "secret"})
    place = f"launch-{launch.id}"
    made = _names(control_plane, "quota,limitrange,networkpolicy,secret,rolebinding", place)
    assert {name.split("/")[0].split(".")[0] for name in made} == {
        "resourcequota", "limitrange", "networkpolicy", "secret", "rolebinding",
    }  # fmt: skip
    await objects.remove(launch)
    until("the namespace is going", lambda: not _exists(control_plane, launch))


async def test_the_namespace_accepts_the_server_and_refuses_larger_or_less_restricted_pods(
    control_plane: ControlPlane, api: KubeApi
) -> None:
    launch, objects = a_launch(), LaunchObjects(some_settings(), api)
    await objects.make(launch)

    def tried(pod: dict[str, Any]) -> str:
        return control_plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod), check=False)

    until("it accepts the server", lambda: "created" in tried(_server(launch)), 30)
    assert "maximum cpu usage per Container is 1" in tried(_server(launch, limits={"cpu": "3", "memory": "1Gi"}))
    many = _server(launch)
    many["spec"]["containers"] = [many["spec"]["containers"][0] | {"name": f"c{n}"} for n in range(8)]
    assert "exceeded quota" in tried(many)
    free = _server(launch)
    free["spec"]["securityContext"] = {}
    assert 'violates PodSecurity "restricted' in tried(free)
    await objects.remove(launch)


async def test_if_an_object_is_refused_none_is_left(control_plane: ControlPlane) -> None:
    api, launch = KubeApi(_account(control_plane, "weaker", _RULES)), a_launch()
    with pytest.raises(SpawnFailed, match="The hub has no permission to create what this launch needs"):
        await LaunchObjects(some_settings(), api).make(launch)
    await api.close()
    until("nothing is left", lambda: not _exists(control_plane, launch))


async def test_an_unreachable_api_server_is_reported(control_plane: ControlPlane, tmp_path: Any) -> None:
    gone = tmp_path / "kubeconfig"
    gone.write_text(control_plane.kubeconfig.read_text().replace(str(control_plane.port), "1"))
    api = KubeApi(str(gone))
    with pytest.raises(SpawnFailed, match="Kubernetes does not answer the hub"):
        await LaunchObjects(some_settings(), api).make(a_launch())
    await api.close()


async def test_the_reaper_deletes_launches_found_dead_twice_and_no_others(
    control_plane: ControlPlane, api: KubeApi
) -> None:
    dead, alive, unknown = a_launch(), a_launch(), a_launch()
    objects = LaunchObjects(some_settings(), api)
    for launch in (dead, alive, unknown):
        await objects.make(launch)
    answers = {f"{dead.user}/": False, f"{alive.user}/": True, f"{unknown.user}/": None}

    async def is_alive(owner: str) -> bool | None:
        return answers.get(owner)

    reaper = NamespaceReaper(OwnNamespaces(api), is_alive)
    await reaper.reap()
    assert _exists(control_plane, dead)
    await reaper.reap()
    until("the dead one goes", lambda: not _exists(control_plane, dead))
    assert _exists(control_plane, alive) and _exists(control_plane, unknown)
    for launch in (alive, unknown):
        await objects.remove(launch)


async def test_the_hub_cannot_give_itself_or_others_more(control_plane: ControlPlane, api: KubeApi) -> None:
    config = control_plane.kubeconfig_for("binder/hub")
    for verb, what in (("get", "secrets"), ("create", "deployments"), ("update", "networkpolicies"), ("get", "nodes")):
        said = control_plane.kubectl("auth", "can-i", verb, what, "-A", config=config, check=False)
        assert said.strip().startswith("no"), (verb, what)
    granted = [
        "create",
        "rolebinding",
        "mine",
        "--clusterrole=cluster-admin",
        "--serviceaccount=binder:hub",
        "-n",
        "binder",
    ]
    assert "forbidden" in control_plane.kubectl(*granted, config=config, check=False)


async def test_in_a_shared_namespace_only_the_launchs_own_objects_are_deleted(
    control_plane: ControlPlane, api: KubeApi
) -> None:
    control_plane.kubectl("create", "namespace", "launch-shared")
    one, two = a_launch(), a_launch()
    objects = LaunchObjects(some_settings(shared="launch-shared"), api)
    for launch in (one, two):
        await objects.make(launch)
        await objects.keep("session", launch, {"TOKEN": "secret"})
    await objects.remove(one)
    left = _names(control_plane, "secret,networkpolicy", "launch-shared")
    assert left and all(two.id in name for name in left)
