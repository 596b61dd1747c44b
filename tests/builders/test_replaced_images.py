"""An image that replaces a build's own in the registry: a real API server without nodes, and a real registry."""

from __future__ import annotations

import asyncio
import logging

import pytest

from pangeo_binder.builders.base import BuildEvent
from pangeo_binder.builders.kube.builder import ImageReplaced, KubeBuilder
from tests.kube.builds import REPO, Stand, images, lines, stand
from tests.kube.test_build_kube import ended, started
from tests.stack.kube_fixtures import cluster_tools, control_plane

__all__ = ["cluster_tools", "control_plane", "images", "stand"]


async def build(stand: Stand, builder: KubeBuilder, then_pushed: str = "") -> BuildEvent | BaseException:
    """Run a build whose image is replaced by another one before the binder asks for it, if `then_pushed`."""
    events: list[BuildEvent] = []
    following = asyncio.create_task(lines(builder, events))
    await started(stand, events)
    name, tag = stand.settings.registry.name, builder.environment_id(REPO)
    digest = stand.registry.push(name, tag)
    if then_pushed:
        stand.registry.push(name, tag, then_pushed)
    stand.say(**ended("push", 0, digest))
    (outcome,) = await asyncio.gather(following, return_exceptions=True)
    return outcome if isinstance(outcome, BaseException) else events[-1]


async def test_an_image_that_replaced_the_builds_own_is_not_used(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    builder = stand.builder()
    refused = await build(stand, builder, then_pushed="of a miner")
    assert isinstance(refused, ImageReplaced) and "somebody else can push" in refused.hint
    assert "but its build pushed sha256:" in caplog.text
    assert await builder.find(REPO) is None, "the next click builds again"
    built = await build(stand, builder)
    assert isinstance(built, BuildEvent) and built.environment == await builder.find(REPO) is not None


async def test_an_image_that_is_replaced_later_is_not_used(stand: Stand) -> None:
    builder, other = stand.builder(), stand.builder()
    built = await build(stand, builder)
    assert isinstance(built, BuildEvent)
    stand.registry.push(stand.settings.registry.name, builder.environment_id(REPO), "of a miner")
    assert await builder.find(REPO) is None
    events: list[BuildEvent] = []
    following = asyncio.create_task(lines(other, events))  # another binder finds the Job, which is kept for a while
    await started(stand, events)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_a_build_that_reports_no_digest_is_believed(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    builder, events = stand.builder(), list[BuildEvent]()
    following = asyncio.create_task(lines(builder, events))
    await started(stand, events)
    stand.registry.push(stand.settings.registry.name, builder.environment_id(REPO))
    with caplog.at_level(logging.WARNING):
        stand.say(**ended("push", 0, "sha256:not-a-digest"))
        await following
    assert events[-1].environment is not None and "did not report its image's digest" in caplog.text
