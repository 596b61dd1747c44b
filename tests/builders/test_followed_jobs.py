"""Jobs on a real API server without nodes: binders renew those that they follow, and end those that nobody follows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pangeo_binder.builders.base import BuildEvent
from pangeo_binder.builders.kube.builder import KubeBuilder
from pangeo_binder.builders.kube.followed import FollowedJobs
from pangeo_binder.builders.kube.job import job_manifest
from pangeo_binder.builders.kube.jobs import ClusterUnavailable, Jobs
from tests.kube.builds import NAMESPACE, REPO, Stand, images, lines, stand
from tests.stack.kube_fixtures import cluster_tools, control_plane

__all__ = ["cluster_tools", "control_plane", "images", "stand"]

RENEW_SECONDS = 0.3
UNFOLLOWED_SECONDS = 1.5


def binder(stand: Stand) -> KubeBuilder:
    """Return the builder of another binder, which renews and looks more often than usual."""
    made = stand.builder()
    made.followed = FollowedJobs(made._jobs, RENEW_SECONDS, UNFOLLOWED_SECONDS)
    return made


class Follower:
    """A binder that follows the build."""

    def __init__(self, builder: KubeBuilder) -> None:
        self.events: list[BuildEvent] = []
        self.task = asyncio.create_task(lines(builder, self.events))

    async def waits(self) -> None:
        async with asyncio.timeout(60):
            while not self.events:  # noqa: ASYNC110 - what is awaited is another process's
                await asyncio.sleep(0.05)

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def reap(builder: KubeBuilder, seconds: float) -> list[str]:
    """Look for `seconds` and return the Jobs that were ended."""
    ended: list[str] = []
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        ended += await builder.followed.reap()
        await asyncio.sleep(RENEW_SECONDS)
    return ended


async def gone(stand: Stand) -> None:
    async with asyncio.timeout(60):
        while await asyncio.to_thread(stand.jobs):  # noqa: ASYNC110 - what is awaited is another process's
            await asyncio.sleep(0.2)


def uids(stand: Stand) -> list[str]:
    return [job["metadata"]["uid"] for job in stand.jobs()]


async def test_a_job_that_one_of_two_binders_follows_continues_and_ends_after_both_have_left(stand: Stand) -> None:
    first, second, looks = Follower(binder(stand)), Follower(binder(stand)), binder(stand)
    await asyncio.gather(first.waits(), second.waits())
    assert await reap(looks, 2 * UNFOLLOWED_SECONDS) == []
    await first.leave()
    assert await reap(looks, 2 * UNFOLLOWED_SECONDS) == []
    await second.leave()
    assert len(await reap(looks, 2 * UNFOLLOWED_SECONDS)) == 1
    await gone(stand)


async def test_who_comes_back_in_time_follows_the_same_job(stand: Stand) -> None:
    first, looks = Follower(binder(stand)), binder(stand)
    await first.waits()
    (uid,) = await asyncio.to_thread(uids, stand)
    await first.leave()
    assert await reap(looks, UNFOLLOWED_SECONDS / 2) == []
    again = Follower(binder(stand))
    await again.waits()
    assert await reap(looks, 2 * UNFOLLOWED_SECONDS) == []
    assert await asyncio.to_thread(uids, stand) == [uid]
    await again.leave()


async def test_a_job_of_a_binder_that_died_before_it_renewed_is_ended_as_well(stand: Stand) -> None:
    builder = binder(stand)
    await builder._jobs.create(job_manifest("abandoned", REPO, stand.settings))
    assert await reap(builder, 2 * UNFOLLOWED_SECONDS) == ["build-abandoned"]
    await gone(stand)


class Late(Jobs):
    """Its caller gets the list of Jobs only after another binder has renewed one."""

    other: FollowedJobs | None = None

    async def all(self) -> list[Any]:
        found = await super().all()
        if self.other is not None:
            assert await self.other.renew(found[0])
        return found


async def test_a_renewal_after_the_look_keeps_the_job(stand: Stand) -> None:
    builder = binder(stand)
    job = await builder._jobs.create(job_manifest("renewed", REPO, stand.settings))
    late = Late(NAMESPACE, str(stand.plane.kubeconfig_for(f"{NAMESPACE}/binder")))
    looks = FollowedJobs(late, unfollowed_seconds=0.05)
    await looks.reap()
    late.other = builder.followed
    await asyncio.sleep(0.1)
    assert await looks.reap() == []
    await late.close()
    assert await asyncio.to_thread(uids, stand) == [job.metadata.uid]


class Unreachable(Jobs):
    """Cannot list Jobs when told so."""

    fails = False

    async def all(self) -> list[Any]:
        return await super().all() if not self.fails else await self._refused()

    async def _refused(self) -> list[Any]:
        other = Jobs("default", str(self.config))
        try:
            return await other.all()
        finally:
            await other.close()

    config = ""


async def test_a_look_that_fails_begins_the_count_anew(stand: Stand) -> None:
    builder = binder(stand)
    await builder._jobs.create(job_manifest("counted", REPO, stand.settings))
    config = str(stand.plane.kubeconfig_for(f"{NAMESPACE}/binder"))
    jobs = Unreachable(NAMESPACE, config)
    jobs.config = config
    looks = FollowedJobs(jobs, unfollowed_seconds=0.05)
    await looks.reap()
    jobs.fails = True
    with pytest.raises(ClusterUnavailable, match="list Jobs"):
        await looks.reap()
    jobs.fails = False
    await asyncio.sleep(0.1)
    assert await looks.reap() == []
    await asyncio.sleep(0.1)
    assert await looks.reap() == ["build-counted"]
    await jobs.close()


async def test_a_job_that_is_going_is_not_renewed_and_not_annotated_elsewhere(stand: Stand) -> None:
    builder = binder(stand)
    job = await builder._jobs.create(job_manifest("going", REPO, stand.settings))
    assert await builder.followed.renew(job)
    await builder._jobs.delete(job)
    assert not await builder.followed.renew(job)
    new = await builder._jobs.create(job_manifest("going", REPO, stand.settings))
    assert not await builder.followed.renew(job) and await builder.followed.renew(new)
    config = str(stand.plane.kubeconfig_for(f"{NAMESPACE}/binder"))
    elsewhere = Jobs("default", config)
    with pytest.raises(ClusterUnavailable, match="annotate"):
        await FollowedJobs(elsewhere).renew(new)
    await elsewhere.close()
