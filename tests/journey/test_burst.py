"""Twenty simultaneous launches of a new repository: one build, twenty sessions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.stack.local import LocalStack, Session, request
from tests.stack.repository import repository

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

MANY = 20


def builds(stack: LocalStack) -> int:
    """Return how many builds have ended, by the binder's metrics."""
    text = stack.page("metrics").body.decode()
    return int(sum(float(count) for count in re.findall(r"^pangeo_binder_builds_total\{.*\} (\S+)$", text, re.M)))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A new stack with its first example built, so that no other build runs during the count."""
    running = LocalStack(tmp_path_factory.mktemp("burst") / "state").start()
    try:
        running.launch(running.example("minimal")).stop()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def launches(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """The events of twenty launches."""
    before = builds(stack)
    repo = repository(tmp_path_factory.mktemp("repository") / "crowd", {"requirements.txt": "humanize==4.11.0\n"})
    with ThreadPoolExecutor(MANY) as pool:
        events = list(pool.map(lambda _: list(stack.events(repo)), range(MANY)))
    assert builds(stack) == before + 1
    return events


@pytest.fixture(scope="module")
def sessions(stack: LocalStack, launches: list[list[dict[str, Any]]]) -> list[Session]:
    failed = [events[-1] for events in launches if events[-1]["phase"] != "ready"]
    assert not failed, failed
    return [Session(stack, events[-1]) for events in launches]


def test_every_launch_shows_the_build_from_its_start(launches: list[list[dict[str, Any]]]) -> None:
    logs = {tuple(e["message"] for e in events if e["phase"] in ("fetching", "building")) for events in launches}
    assert len(logs) == 1
    assert next(iter(logs))[0].startswith("Fetching ")


def test_every_launch_is_ready_with_its_own_cluster(stack: LocalStack, sessions: list[Session]) -> None:
    assert len({session.id for session in sessions}) == MANY
    assert [session.request("api/status").status for session in sessions] == [200] * MANY
    assert len({cluster["owner"] for cluster in stack.clusters()}) == MANY


def test_no_session_accepts_another_sessions_token(sessions: list[Session]) -> None:
    first, second = sessions[:2]
    stolen = request(f"{first.url}api/contents", Authorization=f"token {second.token}")
    assert stolen.status == 403
    assert first.request("api/contents").status == 200


def test_all_sessions_end_at_once(stack: LocalStack, sessions: list[Session]) -> None:
    with ThreadPoolExecutor(MANY) as pool:
        list(pool.map(Session.delete, sessions))
    for session in sessions:
        session.wait_gone(120)
    assert stack.clusters() == []
