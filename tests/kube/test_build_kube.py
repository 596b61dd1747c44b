"""Builds on a real API server without nodes: which binder makes the Job, which follow it, and how it ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pangeo_binder.builders.base import BuildEvent
from pangeo_binder.builders.kube.job import KubeBuildSettings, job_manifest, job_name
from pangeo_binder.builders.kube.jobs import ClusterUnavailable
from pangeo_binder.builders.kube.registry import RegistrySettings
from pangeo_binder.errors import BuildFailed, RepoNotFound, refusal_text
from tests.builders.registryserver import RegistryServer
from tests.kube.builds import NAMESPACE, REPO, Stand, images, lines, namespace_objects, stand
from tests.stack.control_plane import ControlPlane

__all__ = ["images", "stand"]
WAITING = "Waiting for a node with room to build."


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - what is awaited is another process's
            await asyncio.sleep(0.2)


def ended(name: str, code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    """Return a kubelet's status of a pod whose container `name` ended."""
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message, "startedAt": None}}
    listed = "initContainerStatuses" if name == "build" else "containerStatuses"
    one = {"name": name, "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}
    return {"phase": "Succeeded" if code == 0 else "Failed", listed: [one]}


async def started(stand: Stand, events: list[BuildEvent]) -> None:
    """Return once a follower has seen the Job's pod."""
    await until(lambda: any(event.line == WAITING for event in events))


def finish(stand: Stand, id_: str) -> str:
    """Push an image and write the pod's success, as a build does; return the image's digest."""
    digest = stand.registry.push(stand.settings.registry.name, id_)
    stand.say(**ended("push", 0, digest))
    return digest


async def test_a_build_from_its_job_to_its_image(stand):
    builder, events = stand.builder(), []
    assert await builder.find(REPO) is None
    following = asyncio.create_task(lines(builder, events))
    await started(stand, events)
    digest = finish(stand, builder.environment_id(REPO))
    await following
    environment = events[-1].environment
    assert environment == await builder.find(REPO)
    assert environment.reference == f"{stand.registry.address}/{stand.settings.registry.name}@{digest}"
    assert environment.id == builder.environment_id(REPO)


async def test_two_binders_make_one_job(stand):
    events: list[list[BuildEvent]] = [[], []]
    builders = [stand.builder(), stand.builder()]
    tasks = [asyncio.create_task(lines(*pair)) for pair in zip(builders, events, strict=True)]
    await asyncio.gather(*(started(stand, each) for each in events))
    assert len(stand.jobs()) == len(stand.pods()) == 1
    assert sum("being built already" in event.line for each in events for event in each) == 1
    finish(stand, builders[0].environment_id(REPO))
    await asyncio.gather(*tasks)
    assert events[0][-1].environment == events[1][-1].environment is not None


async def test_a_binder_that_stops_leaves_the_build_and_another_takes_it_up(stand):
    first, events = stand.builder(), []
    following = asyncio.create_task(lines(first, events))
    await started(stand, events)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    await first.close()
    (job,) = stand.jobs()
    again: list[BuildEvent] = []
    following = asyncio.create_task(lines(stand.builder(), again))
    await started(stand, again)
    assert [each["metadata"]["uid"] for each in stand.jobs()] == [job["metadata"]["uid"]]
    finish(stand, first.environment_id(REPO))
    assert (await following)[-1] == "Built the environment."


async def failed(stand: Stand, changes: dict[str, Any] | None = None, /, **status: Any) -> Exception:
    """Return the error of a build whose pod has `status`; `changes` are changes of its settings."""
    events: list[BuildEvent] = []
    following = asyncio.create_task(lines(stand.builder(**(changes or {})), events))
    await started(stand, events)
    stand.say(**status)
    (error,) = await asyncio.gather(following, return_exceptions=True)
    assert isinstance(error, Exception)
    return error


async def test_a_failure_is_reported_and_the_next_click_builds_again(stand):
    said = refusal_text(BuildFailed("Building failed at the step `RUN false`.", "The log says why."))
    error = await failed(stand, **ended("build", 1, said))
    assert isinstance(error, BuildFailed) and error.message == "Building failed at the step `RUN false`."
    assert error.hint == "The log says why."
    (old,) = stand.jobs()  # kept for its log, until its time to live is over
    events: list[BuildEvent] = []
    following = asyncio.create_task(lines(stand.builder(), events))
    await until(lambda: old["metadata"]["uid"] not in [each["metadata"]["uid"] for each in stand.jobs()])
    await until(lambda: [pod["metadata"].get("deletionTimestamp") for pod in stand.pods()] == [None])
    await started(stand, events)
    finish(stand, stand.builder().environment_id(REPO))
    assert (await following)[-1] == "Built the environment."


async def test_a_build_over_its_memory_says_so(stand):
    error = await failed(stand, **ended("build", 137, reason="OOMKilled"))
    assert error.message == "The build needed more memory than this binder gives it (4G)."


async def test_a_missing_repository_is_reported_as_such(stand):
    error = await failed(stand, **ended("build", 1, refusal_text(RepoNotFound("There is none.", "Look."))))
    assert isinstance(error, RepoNotFound) and error.message == "There is none."


async def test_a_finished_job_whose_image_is_there_is_not_built_again(stand):
    builder, events = stand.builder(), []
    following = asyncio.create_task(lines(builder, events))
    await started(stand, events)
    finish(stand, builder.environment_id(REPO))
    await following
    (job,) = stand.jobs()
    assert await lines(stand.builder()) == ["Built the environment."]
    assert [each["metadata"]["uid"] for each in stand.jobs()] == [job["metadata"]["uid"]]


async def test_time_is_limited_by_the_cluster_itself(stand):
    with pytest.raises(BuildFailed, match="took longer than 3s and was stopped"):
        await lines(stand.builder(timeout_seconds=3))


@pytest.fixture
async def full(stand):
    """A namespace whose quota has no room; deletes the quota at the end, unless the test did."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": NAMESPACE}}
    stand.plane.apply(quota | {"spec": {"hard": {"count/jobs.batch": "0"}}})
    used = ("get", "resourcequota", "q", "-n", NAMESPACE, "-o", "jsonpath={.status.used}")
    await until(lambda: "jobs" in stand.plane.kubectl(*used))
    yield stand
    stand.plane.kubectl("delete", "resourcequota", "q", "-n", NAMESPACE, "--ignore-not-found")


async def test_builds_over_the_quota_wait(full):
    events: list[BuildEvent] = []
    following = asyncio.create_task(lines(full.builder(), events))
    await until(lambda: events)
    assert events[0].line == "Waiting for other builds to end." and full.jobs() == []
    full.plane.kubectl("delete", "resourcequota", "q", "-n", NAMESPACE)
    await started(full, events)
    following.cancel()


async def test_builds_over_the_quota_wait_no_longer_than_a_build_takes(full):
    with pytest.raises(BuildFailed, match="There was no room for this build within 2s"):
        await lines(full.builder(timeout_seconds=2))


async def test_a_pod_that_can_never_start_is_given_up(stand):
    waiting = {"waiting": {"reason": "ImagePullBackOff"}}
    one = {"name": "build", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
    error = await failed(stand, {"retry_seconds": 2}, initContainerStatuses=[one])
    assert error.message.startswith("The image that builds environments cannot be pulled") and "operator" in error.hint
    await until(lambda: stand.jobs() == [])


async def test_a_removed_build_is_reported(stand):
    events: list[BuildEvent] = []
    following = asyncio.create_task(lines(stand.builder(), events))
    await started(stand, events)
    stand.clear()
    with pytest.raises(BuildFailed, match="removed while it ran"):
        await following


async def test_the_binder_may_do_no_more_than_that(stand):
    config = stand.plane.kubeconfig_for(f"{NAMESPACE}/binder")
    for verb, what in (
        ("get", "secrets"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("watch", "jobs"),
        ("update", "jobs"),
        ("deletecollection", "jobs"),
        ("patch", "pods"),
    ):
        refused = stand.plane.kubectl("auth", "can-i", verb, what, "-n", NAMESPACE, config=config, check=False)
        assert refused.startswith("no"), (verb, what)
    assert (
        stand.plane.kubectl("auth", "can-i", "create", "jobs", "-n", "default", config=config, check=False)[:2] == "no"
    )


async def test_without_rights_the_build_fails_for_the_operator(stand, control_plane):
    other = control_plane.kubeconfig_for("default/default")
    with pytest.raises(ClusterUnavailable, match="create a Job: status 403 \\(permission\\)"):
        await lines(stand.builder(other))


@pytest.mark.parametrize(
    ("level", "profile", "accepted"),
    [
        ("privileged", "", True),
        ("baseline", "", False),
        ("baseline", "builds.json", True),
        ("restricted", "builds.json", False),
    ],
)
def test_the_least_pod_security_level(control_plane: ControlPlane, images: RegistryServer, level, profile, accepted):
    """The namespace accepts the Job's pod exactly at the levels in docs/environments.md."""
    name = f"level-{level}-{len(profile)}"
    control_plane.apply(namespace_objects(name, level)[0])
    settings = KubeBuildSettings(
        namespace=name,
        image="i",
        registry=RegistrySettings(images.address),
        push_secret="push",
        seccomp_profile=profile,
        apparmor_profile="builds" if profile else "",
    )
    template = job_manifest("abc", REPO, settings)["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {**pod["metadata"], "name": job_name("abc"), "namespace": name}
    control_plane.kubectl("create", "serviceaccount", "default", "-n", name, check=False)
    said = control_plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod), check=False)
    assert ("created" in said) is accepted, said
    assert accepted or "PodSecurity" in said
