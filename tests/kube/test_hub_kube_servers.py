"""Servers as pods on a real API server: a launch's objects, its messages, and what is left at its end."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from pangeo_binder.errors import QuotaExceeded, SpawnFailed, TicketInvalid
from pangeo_binder.model import Launch, Repo, RepoRef
from tests.kube.hubstand import HubStand, hub_stand, new_launch
from tests.stack.control_plane import ControlPlane
from tests.stack.local import until

SOON = 30
"""Within so many seconds all objects of an ended launch are deleted or being deleted."""


@pytest.fixture(scope="module")
def stand(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubStand]:
    yield from hub_stand(control_plane, tmp_path_factory.mktemp("stand") / "hub", seconds=25)


async def started(stand: HubStand, launch: Launch) -> list[str]:
    """Start a launch whose pod runs; return the messages."""
    starting = asyncio.create_task(stand.launch(launch))
    await asyncio.to_thread(stand.runs, launch)
    return await starting


async def failing(stand: HubStand, launch: Launch, phase: str, **state: Any) -> SpawnFailed:
    """Return the error of a launch whose pod gets a status in which it never runs."""
    starting = asyncio.create_task(stand.launch(launch))
    await asyncio.to_thread(stand.becomes, launch, phase, **state)
    with pytest.raises(SpawnFailed) as refused:
        await starting
    return refused.value


def data(secret: dict[str, Any]) -> dict[str, str]:
    return {name: base64.b64decode(value).decode() for name, value in secret.get("data", {}).items()}


async def test_a_launch_is_a_namespace_with_a_pod_and_what_bounds_it(stand: HubStand) -> None:
    launch = new_launch()
    await started(stand, launch)
    kinds = "resourcequotas,limitranges,networkpolicies,secrets,pods"
    names = {(each["kind"], each["metadata"]["name"]) for each in stand.objects(launch, kinds)}
    bounds = {("ResourceQuota", "launch"), ("LimitRange", "launch"), ("NetworkPolicy", "launch")}
    secrets = {("Secret", name) for name in ("session", "storage", "pull")}
    assert names == {*bounds, *secrets, ("Pod", f"server-{launch.id}")}
    (quota,) = stand.objects(launch, "resourcequotas")
    assert quota["status"]["used"]["pods"] == "1", "the quota was there before the pod"
    labels = stand.plane.get("namespace", stand.namespace(launch))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


async def test_the_pod_is_limited_to_its_grant(stand: HubStand) -> None:
    launch = new_launch("gpu")
    await started(stand, launch)
    spec = stand.pod(launch)["spec"]
    (container,) = spec["containers"]
    limits = {"cpu": "1500m", "memory": str(2**30), "ephemeral-storage": str(10 * 2**30)}
    assert container["resources"]["limits"] == limits
    assert container["resources"]["requests"] == {**limits, "ephemeral-storage": str(2**28)}
    assert container["image"] == launch.image
    assert container["args"][0] == "jupyter-lab" and "--ServerApp.ip=0.0.0.0" in container["args"]
    assert (spec["nodeSelector"], spec["restartPolicy"]) == ({"pool": "gpu"}, "Never")
    assert {"key": "gpu", "operator": "Exists"} in spec["tolerations"]
    assert not spec["automountServiceAccountToken"] and not spec["enableServiceLinks"] and "initContainers" not in spec
    assert spec["activeDeadlineSeconds"] >= launch.grant.server.max_age_seconds


async def test_secrets_are_only_in_secrets(stand: HubStand) -> None:
    launch = new_launch()
    await started(stand, launch)
    held = {each["metadata"]["name"]: data(each) for each in stand.objects(launch, "secrets")}
    assert {"JUPYTER_TOKEN", "JUPYTERHUB_API_TOKEN"} <= set(held["session"])
    assert {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "SCRATCH_BUCKET"} <= set(held["storage"])
    pod = stand.pod(launch)
    secret = [text for kind in ("session", "storage") for text in held[kind].values() if len(text) > 15]
    assert secret and not [text for text in secret if text in json.dumps(pod)]
    named = {each["name"] for each in pod["spec"]["containers"][0]["env"]}
    assert "JUPYTERHUB_SERVICE_PREFIX" in named and not named & {*held["session"], *held["storage"]}
    assert not [text for text in secret if text in stand.log]


async def test_texts_of_strangers_are_neither_expanded_nor_templates(stand: HubStand) -> None:
    ref = RepoRef("git", "https://example.org/$(JUPYTER_TOKEN)/{username}", "a\nb\u202ec" + "d" * 900)
    launch = new_launch(repo=Repo(ref, "a" * 40))
    await started(stand, launch)
    pod = stand.pod(launch)
    env = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
    assert env["BINDER_REPO_URL"] == "https://example.org/$$(JUPYTER_TOKEN)/{username}"
    annotations = pod["metadata"]["annotations"]
    assert annotations["pangeo-binder/repo"] == ref.url
    assert annotations["pangeo-binder/ref"].startswith("a?b?cd") and len(annotations["pangeo-binder/ref"]) == 500


async def test_a_stop_leaves_nothing(stand: HubStand) -> None:
    launch, other = new_launch(), new_launch()
    await started(stand, launch)
    await started(stand, other)
    stand.end(launch)
    await asyncio.to_thread(until, "it is gone", lambda: stand.is_gone(launch), SOON)
    assert not stand.is_gone(other) and stand.is_there(other)


async def test_a_server_that_ends_by_itself_leaves_nothing(stand: HubStand) -> None:
    launch = new_launch()
    await started(stand, launch)
    stand.becomes(launch, "Failed", terminated={"exitCode": 1, "reason": "Error"})
    await asyncio.to_thread(until, "it is gone", lambda: stand.is_gone(launch), SOON)


async def test_without_a_ticket_nothing_is_made(stand: HubStand) -> None:
    launch = new_launch()
    with pytest.raises(TicketInvalid):
        await stand.launch(launch, "none")
    assert stand.is_gone(launch)


async def test_a_launch_shows_what_its_pod_waits_for(stand: HubStand) -> None:
    launch = new_launch()
    starting = asyncio.create_task(stand.launch(launch))
    wait = ["wait", "pod", "-n", stand.namespace(launch), f"server-{launch.id}", "--for=condition=PodScheduled=false"]
    await asyncio.to_thread(stand.pod, launch)
    await asyncio.to_thread(stand.plane.kubectl, *wait)
    await asyncio.sleep(3)
    await asyncio.to_thread(stand.runs, launch)
    assert "Waiting for a node with room for this session" in await starting


@pytest.mark.parametrize(
    ("phase", "state", "sentence"),
    [
        ("Pending", {"waiting": {"reason": "ImagePullBackOff"}}, "image could not be pulled"),
        ("Failed", {"terminated": {"exitCode": 1, "reason": "Error"}}, "ended while it was starting"),
        ("Failed", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, "more memory than its tier has"),
    ],
)
async def test_a_pod_that_never_runs_is_reported_at_once(
    stand: HubStand, phase: str, state: dict[str, Any], sentence: str
) -> None:
    launch = new_launch()
    failed = await failing(stand, launch, phase, **state)
    assert sentence in failed.message and failed.hint
    await asyncio.to_thread(until, "it is gone", lambda: stand.is_gone(launch), SOON)


async def test_a_full_cluster_is_reported(stand: HubStand) -> None:
    launch = new_launch()
    with pytest.raises(SpawnFailed, match="No node had room for this session within 20 s"):
        await stand.launch(launch)
    await asyncio.to_thread(until, "it is gone", lambda: stand.is_gone(launch), SOON)


async def test_a_used_up_quota_is_reported(stand: HubStand) -> None:
    launch = new_launch()
    name = stand.namespace(launch)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": name}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    stand.plane.apply(namespace, {**quota, "spec": {"hard": {"pods": "0"}}})
    used = ["get", "resourcequota", "none", "-n", name, "-o", "jsonpath={.status.hard.pods}"]
    until("the quota counts", lambda: stand.plane.kubectl(*used) == "0")
    with pytest.raises(QuotaExceeded, match="quota has no room for its server"):
        await stand.launch(launch)
    await asyncio.to_thread(until, "it is gone", lambda: stand.is_gone(launch), SOON)


async def test_a_refused_pod_is_reported(stand: HubStand) -> None:
    launch = new_launch("odd")
    with pytest.raises(
        SpawnFailed, match=r"rules of this Kubernetes cluster do not allow the session's server\."
    ) as refused:
        await stand.launch(launch)
    assert "there-is-none" not in str(refused.value), "Kubernetes' own message is for the log"
    await asyncio.to_thread(until, "it is gone", lambda: stand.is_gone(launch), SOON)


async def test_servers_outlive_the_hub_and_are_found_again(stand: HubStand) -> None:
    launch, dead = new_launch(), new_launch()
    await started(stand, launch)
    await started(stand, dead)
    stand.kill()
    stand.plane.kubectl("delete", "pod", f"server-{dead.id}", "-n", stand.namespace(dead))
    stand.start()
    until("it is found again", lambda: stand.is_there(launch))
    await asyncio.to_thread(until, "the dead one is gone", lambda: stand.is_gone(dead), SOON)
    assert not stand.is_gone(launch)
    stand.end(launch)
    await asyncio.to_thread(until, "it is gone", lambda: stand.is_gone(launch), SOON)
