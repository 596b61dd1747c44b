"""Twenty launches at once of a repository nobody has built: one build, twenty sessions."""

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
    """Return how many builds the binder has ended."""
    text = request(f"{stack.url}metrics").body.decode()
    return int(sum(float(count) for count in re.findall(r"^pangeo_binder_builds_total\{.*\} (\S+)$", text, re.M)))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack of its own, with its first example built: no other build runs beside the one that is counted."""
    running = LocalStack(tmp_path_factory.mktemp("burst") / "state").start()
    try:
        running.launch(running.example("minimal")).stop()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def launches(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """All that each of twenty people was told."""
    before = builds(stack)
    repo = repository(tmp_path_factory.mktemp("repository") / "crowd", {"requirements.txt": "humanize==4.11.0\n"})
    with ThreadPoolExecutor(MANY) as people:
        told = list(people.map(lambda _: list(stack.events(repo)), range(MANY)))
    assert builds(stack) == before + 1
    return told


@pytest.fixture(scope="module")
def sessions(stack: LocalStack, launches: list[list[dict[str, Any]]]) -> list[Session]:
    failed = [events[-1] for events in launches if events[-1]["phase"] != "ready"]
    assert not failed, failed
    return [Session(stack, events[-1]) for events in launches]


def test_everybody_saw_the_build_from_its_start(launches: list[list[dict[str, Any]]]) -> None:
    logs = {tuple(e["message"] for e in told if e["phase"] in ("fetching", "building")) for told in launches}
    assert len(logs) == 1
    assert next(iter(logs))[0].startswith("Fetching ")


def test_all_are_ready_with_a_cluster_each(stack: LocalStack, sessions: list[Session]) -> None:
    assert len({session.id for session in sessions}) == MANY
    assert [session.request("api/status").status for session in sessions] == [200] * MANY
    assert len({cluster["owner"] for cluster in stack.clusters()}) == MANY


def test_no_session_opens_with_anothers_token(sessions: list[Session]) -> None:
    first, second = sessions[:2]
    stolen = request(f"{first.url}api/contents", Authorization=f"token {second.token}")
    assert stolen.status == 403
    assert first.request("api/contents").status == 200


def test_all_end_together(stack: LocalStack, sessions: list[Session]) -> None:
    with ThreadPoolExecutor(MANY) as people:
        list(people.map(Session.delete, sessions))
    for session in sessions:
        session.wait_gone(120)
    assert stack.clusters() == []
