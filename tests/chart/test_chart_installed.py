"""The chart on a real API server without nodes: objects are accepted, upgrades keep them, and accounts are confined."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pangeo_binder.builders.kube.job import KubeBuildSettings, job_manifest
from pangeo_binder.builders.kube.registry import RegistrySettings
from pangeo_binder.model import Repo, RepoRef
from tests.chart.conftest import HERE, ROOT, Helm
from tests.chart.test_chart_values import EXAMPLES, NAMED
from tests.stack.control_plane import ControlPlane
from tests.stack.local import until

SINGLE_NODE = EXAMPLES[-1]


@dataclass(frozen=True, slots=True)
class Release:
    """Helm on the cluster."""

    helm: Helm
    plane: ControlPlane

    def apply(self, verb: str, name: str, *arguments: str | Path) -> None:
        """Install or upgrade a release in a namespace of its name, without running its hook."""
        common = ["-n", name, "--create-namespace", "--no-hooks", "--wait=false", "--kubeconfig", self.plane.kubeconfig]
        done = self.helm.run(verb, name, self.helm.chart, *common, *arguments)
        assert done.returncode == 0, done.stderr

    def remove(self, name: str) -> None:
        """Uninstall a release."""
        self.helm.run("uninstall", name, "-n", name, "--kubeconfig", self.plane.kubeconfig)

    def secrets(self, name: str) -> dict[str, Any]:
        """Return the data of the release's Secrets, by name."""
        found = self.plane.get("secrets", "-n", name)["items"]
        return {each["metadata"]["name"]: each["data"] for each in found if each["type"] == "Opaque"}


@pytest.fixture(scope="module")
def release(helm: Helm, plane: ControlPlane) -> Release:
    """Return helm on a cluster with the kinds of the Prometheus operator and of the Gateway API."""
    plane.kubectl("apply", "-f", str(HERE / "crds.yaml"))
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    return Release(helm, plane)


@pytest.fixture(scope="module")
def installed(release: Release) -> Iterator[Release]:
    """Yield one release, `binder`, whose launches' namespaces begin with `launch-`."""
    release.apply("install", "binder", "-f", SINGLE_NODE)
    yield release
    release.remove("binder")


@pytest.mark.parametrize("example", NAMED)
def test_a_cluster_accepts_every_object_of_an_example_unchanged(example: Path, release: Release) -> None:
    name = f"try-{example.stem}"
    release.apply("install", name, "-f", example, "--set", f"launches.prefix=of-{name}")
    try:
        # strict validation: an unknown field is an error instead of being dropped
        written = release.helm.template("-f", example, "--set", f"launches.prefix=of-{name}", release=name)
        ours = [each for each in written if "namespace" not in each["metadata"]]
        arguments = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
        for batch, where in ((ours, ("-n", name)), ([each for each in written if each not in ours], ())):
            listed = {"apiVersion": "v1", "kind": "List", "items": [_without_data(each) for each in batch]}
            release.plane.kubectl(*arguments, *where, stdin=json.dumps(listed))
    finally:
        release.remove(name)


def _without_data(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest without random data."""
    return {key: value for key, value in manifest.items() if manifest["kind"] != "Secret" or key != "data"}


def test_an_upgrade_keeps_secrets_and_applies_new_values(release: Release) -> None:
    release.apply("install", "kept", "-f", SINGLE_NODE, "--set", "launches.prefix=of-kept")
    try:
        before = release.secrets("kept")
        arguments = ("--set", "launches.prefix=of-kept", "--set", "binder.queueSeconds=5")
        release.apply("upgrade", "kept", "-f", SINGLE_NODE, *arguments)
        assert release.secrets("kept") == before and len(before) >= 5
        config = release.plane.get("configmap", "pangeo-binder", "-n", "kept")["data"]["values.yaml"]
        assert "queueSeconds: 5" in config
    finally:
        release.remove("kept")
    left = release.secrets("kept")
    assert {name: left.get(name) for name in before if name.startswith("pangeo")} == {
        name: data for name, data in before.items() if name.startswith("pangeo")
    }, "scratch and tickets outlive the release"


def test_the_binder_reaches_the_addresses_of_the_api_server_and_no_network_around_them(installed: Release) -> None:
    """The values name none, so helm finds them in the cluster."""
    policy = installed.plane.get("networkpolicy", "binder", "-n", "binder")["spec"]
    *api, internet = [
        rule for rule in policy["egress"] if any("cidr" in peer.get("ipBlock", {}) for peer in rule["to"])
    ]
    assert internet["to"][0]["ipBlock"]["cidr"] == "0.0.0.0/0"
    opened = [
        ({peer["ipBlock"]["cidr"] for peer in rule["to"]}, [each["port"] for each in rule["ports"]]) for rule in api
    ]
    service = installed.plane.get("service", "kubernetes", "-n", "default")["spec"]
    assert opened == [({f"{service['clusterIP']}/32"}, [443]), ({"192.0.2.10/32", "192.0.2.11/32"}, [6443])]


def test_secrets_agree_where_two_processes_share_one(installed: Release) -> None:
    held = {name.removeprefix("pangeo-binder-"): data for name, data in installed.secrets("binder").items()}
    hub = held["hub"]
    assert held["binder"] == {"ticket-keys": hub["ticket-keys"], "hub-token": hub["binder-token"]}
    assert held["gateway"] == {"hub-token": hub["gateway-token"]}
    assert held["storage"]["issue-token"] == hub["issue-token"] and "master-key" not in hub
    assert held["status"] == {"hub-token": hub["status-token"], "storage-token": held["storage"]["look-token"]}
    assert (
        len({value for data in (hub, held["storage"]) for value in data.values()})
        == len({**hub, "storage-hub": "", **{f"storage-{key}": 0 for key in ("master-key", "look-token")}}) - 1
    ), "no two are the same"


def _can(plane: ControlPlane, account: str) -> Callable[..., bool]:
    def can(verb: str, resource: str, *where: str) -> bool:
        kind, _, part = resource.partition("/")
        whole = (kind, f"--subresource={part}", *where)
        arguments = ("auth", "can-i", verb, *whole, f"--as=system:serviceaccount:{account}")
        return plane.kubectl(*arguments, check=False).strip().startswith("yes")

    return can


@pytest.mark.parametrize(
    ("account", "may", "may_not"),
    [
        (
            "hub",
            ["create namespaces", "create pods", "create secrets", "create networkpolicies.networking.k8s.io"],
            ["get secrets", "list secrets", "create pods/exec", "get nodes", "create clusterroles", "update pods"],
        ),
        (
            "pangeo-binder-dask-controller",
            ["list pods", "list endpoints", "watch daskclusters.gateway.dask.org"],
            ["create pods", "create secrets", "get secrets", "create namespaces", "create pods/exec", "list services"],
        ),
        (
            "pangeo-binder-gateway",
            ["list daskclusters.gateway.dask.org"],
            ["create daskclusters.gateway.dask.org", "get secrets", "list secrets", "create pods", "list pods"],
        ),
        (
            "pangeo-binder-binder",
            [],
            ["create jobs", "list pods", "get secrets", "create namespaces", "list configmaps"],
        ),
        ("default", [], ["list pods", "get secrets", "create pods"]),
    ],
)
def test_each_account_may_do_only_its_own_work(
    account: str, may: list[str], may_not: list[str], installed: Release
) -> None:
    can = _can(installed.plane, f"binder:{account}")
    assert {rule: can(*rule.split(), "--all-namespaces") for rule in may} == dict.fromkeys(may, True)
    assert {rule: can(*rule.split(), "--all-namespaces") for rule in may_not} == dict.fromkeys(may_not, False)


def test_the_binder_may_build_in_the_builds_namespace_and_nowhere_else(installed: Release) -> None:
    can = _can(installed.plane, "binder:pangeo-binder-binder")
    assert can("create", "jobs", "-n", "binder-builds") and can("get", "pods/log", "-n", "binder-builds")
    assert not can("get", "secrets", "-n", "binder-builds") and not can("create", "pods", "-n", "binder-builds")
    assert not can("create", "jobs", "-n", "binder")


def _namespace(name: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def _secret(namespace: str) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "session", "namespace": namespace}})


def _pod(namespace: str) -> str:
    containers = [{"name": "c", "image": "none"}]
    meta = {"name": "other", "namespace": namespace}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": containers}})


def test_the_hub_writes_only_in_launches_namespaces(installed: Release) -> None:
    plane = installed.plane
    hub = plane.kubeconfig_for("binder/hub")
    plane.kubectl("create", "-f", "-", stdin=_namespace("launch-abc"), config=hub)
    plane.kubectl("create", "-f", "-", stdin=_secret("launch-abc"), config=hub)
    refused = "pangeo-binder writes only in namespaces that begin with launch-"
    for manifest in (_namespace("other"), _namespace("launcher"), _secret("binder"), _secret("kube-system")):
        assert refused in plane.kubectl("create", "-f", "-", stdin=manifest, config=hub, check=False)
    for name in ("binder", "binder-builds"):
        assert refused in plane.kubectl("delete", "namespace", name, "--wait=false", config=hub, check=False)
    plane.kubectl("create", "-f", "-", stdin=_pod("binder"))
    assert refused in plane.kubectl("delete", "pod", "other", "-n", "binder", config=hub, check=False)
    plane.kubectl("delete", "namespace", "launch-abc", "--wait=false", config=hub)


def test_the_hub_cannot_delete_secrets_of_the_release(installed: Release) -> None:
    hub = installed.plane.kubeconfig_for("binder/hub")
    asked = ("delete", "secrets", "pangeo-binder-hub", "-n", "binder")
    assert "cannot delete resource" in installed.plane.kubectl(*asked, config=hub, check=False)
    assert installed.plane.get("secret", "pangeo-binder-hub", "-n", "binder")["data"]


def test_the_gateways_accounts_work_only_where_the_hub_bound_their_roles(installed: Release) -> None:
    plane = installed.plane
    config = plane.get("configmap", "pangeo-binder", "-n", "binder")["data"]["values.yaml"]
    roles = yaml.safe_load(config)["site"]["launchRoles"]
    hub = plane.kubeconfig_for("binder/hub")
    plane.kubectl("create", "-f", "-", stdin=_namespace("launch-bound"), config=hub)
    for each in roles:
        bind = ("create", "rolebinding", each["account"], f"--clusterrole={each['role']}", "-n", "launch-bound")
        plane.kubectl(*bind, f"--serviceaccount=binder:{each['account']}", config=hub)
    gateway, controller = (_can(plane, f"binder:{each['account']}") for each in roles)
    for can, rule in ((gateway, "get secrets"), (controller, "create pods"), (controller, "patch daskclusters/status")):
        assert can(*rule.split(), "-n", "launch-bound") and not can(*rule.split(), "-n", "binder")
    other = ("create", "rolebinding", "other", "--clusterrole=cluster-admin", "--serviceaccount=binder:hub")
    assert "attempting to grant RBAC" in plane.kubectl(*other, "-n", "launch-bound", config=hub, check=False)
    allowed = ("create", "rolebinding", "other", f"--clusterrole={roles[0]['role']}", "--serviceaccount=binder:hub")
    assert "writes only in namespaces" in plane.kubectl(*allowed, "-n", "binder", config=hub, check=False)
    plane.kubectl("delete", "namespace", "launch-bound", "--wait=false", config=hub)


def _documented_answers() -> Iterator[tuple[str, str, bool]]:
    """Yield the accounts, questions and answers of the table in docs/kubernetes.md."""
    lines = (ROOT / "docs" / "kubernetes.md").read_text().splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith("| question |")]
    accounts = [cell.strip(" `") for cell in lines[start].strip("|").split("|")][1:]
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return
        question, *answers = [cell.strip(" `") for cell in line.strip("|").split("|")]
        for account, answer in zip(accounts, answers, strict=True):
            yield account, question, answer.startswith("yes")


def test_accounts_have_exactly_the_documented_permissions(installed: Release) -> None:
    plane = installed.plane
    roles = yaml.safe_load(plane.get("configmap", "pangeo-binder", "-n", "binder")["data"]["values.yaml"])
    plane.kubectl("create", "-f", "-", stdin=_namespace("launch-table"))
    for each in roles["site"]["launchRoles"]:
        bind = ("create", "rolebinding", each["account"], f"--clusterrole={each['role']}", "-n", "launch-table")
        plane.kubectl(*bind, f"--serviceaccount=binder:{each['account']}")
    answers = list(_documented_answers())
    assert len(answers) >= 36 and {said for _, _, said in answers} == {True, False}
    for account, question, said in answers:
        arguments = ("auth", "can-i", *question.replace("launch-…", "launch-table").split())
        answer = plane.kubectl(*arguments, f"--as=system:serviceaccount:binder:{account}", check=False)
        assert answer.strip().startswith("yes" if said else "no"), f"{account}: {question}: {answer}"
    plane.kubectl("delete", "namespace", "launch-table", "--wait=false")


def test_the_hubs_admission_policy_does_not_restrict_other_accounts(installed: Release) -> None:
    installed.plane.kubectl("create", "-f", "-", stdin=_namespace("elsewhere"))
    installed.plane.kubectl("delete", "namespace", "elsewhere", "--wait=false")


def _build(container: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return the pod that a build's Job creates, with `changes` to its spec and to its first container."""
    registry = RegistrySettings("registry.example.org")
    builder = yaml.safe_load(SINGLE_NODE.read_text())["images"]["builder"]
    image = f"{builder['name']}:{builder['tag']}"
    settings = KubeBuildSettings(namespace="binder-builds", image=image, registry=registry)
    repo = Repo(RepoRef("git", "https://git.example.org/some", "HEAD"), "0" * 40)
    spec = job_manifest("some", repo, settings)["spec"]["template"]["spec"]
    spec["initContainers"][0].update(container or {})
    spec["volumes"] += changes.pop("more_volumes", [])
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "build"}, "spec": {**spec, **changes}}
    return json.dumps(pod)


def _created(plane: ControlPlane, manifest: str, namespace: str = "binder-builds") -> str:
    arguments = ("create", "--dry-run=server", "-n", namespace, "-f", "-")
    return plane.kubectl(*arguments, stdin=manifest, check=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hostNetwork": True}, "must not share the node's namespaces"),
        ({"hostPID": True}, "must not share the node's namespaces"),
        ({"more_volumes": [{"name": "more", "hostPath": {"path": "/"}}]}, "may mount only empty directories"),
        ({"more_volumes": [{"name": "more", "secret": {"secretName": "other"}}]}, "may mount only empty directories"),
        ({"automountServiceAccountToken": True}, "must not have a service account token"),
        ({"securityContext": {}}, "must not run as root"),
        ({"container": {"securityContext": {"privileged": True}}}, "no privilege"),
        ({"container": {"securityContext": {"runAsUser": 0, "capabilities": {"drop": ["ALL"]}}}}, "no privilege"),
        ({"container": {"securityContext": {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}}}, "no privilege"),
        ({"container": {"image": "evil:1"}}, "must run the builder image"),
    ],
)
def test_even_a_compromised_binder_creates_no_build_that_reaches_its_node(
    changes: dict[str, Any], message: str, installed: Release
) -> None:
    assert "created" in _created(installed.plane, _build())
    assert message in _created(installed.plane, _build(**changes))


def test_no_build_runs_without_the_isolation_that_the_operator_chose(release: Release) -> None:
    chosen = "launches.prefix=of-users,builds.hostUsers=false,builds.runtimeClassName=kata"
    kata = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kata"}, "handler": "kata"}
    release.plane.apply(kata)
    release.apply("install", "users", "-f", SINGLE_NODE, "--set", chosen)
    try:

        def tried(**changes: Any) -> str:
            return _created(release.plane, _build(**changes), "users-builds")

        until("the policy works", lambda: "must have its own user namespace" in tried(runtimeClassName="kata"), 60)
        assert "must have the runtime class kata" in tried(hostUsers=False)
        assert "created" in tried(hostUsers=False, runtimeClassName="kata")
    finally:
        release.remove("users")
