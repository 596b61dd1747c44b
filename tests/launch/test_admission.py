"""Admission: a seat is given to one launch at a time, however fast people click and however many binders ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from pangeo_binder.errors import HubUnavailable, NotAllowed, QuotaExceeded
from pangeo_binder.events import Event
from pangeo_binder.hub.admissions import EXPIRY_SECONDS, AdmissionTable
from pangeo_binder.launch import admission as module
from pangeo_binder.launch.admission import Admission, Seat
from pangeo_binder.launch.hub import Hub
from pangeo_binder.launch.queue import Queue
from pangeo_binder.model import Repo, RepoRef, VirtualEnvironment
from pangeo_binder.policy.match import Question
from pangeo_binder.policy.model import Policy
from pangeo_binder.ticket import sign
from tests.launch.conftest import NewAdmission
from tests.launch.hubserver import KEYS, TOKEN, SmallHub

ENVIRONMENT = VirtualEnvironment("e1", "/e1", "/e1/checkout")


@pytest.fixture
def admission(policy: Policy, new_admission: NewAdmission) -> Admission:
    return new_admission(policy)


def admitting(admission: Admission, repo: Repo) -> AsyncGenerator[Event | Seat, None]:
    return admission.admit(repo, Question(repo.ref))


@asynccontextmanager
async def seated(admission: Admission, repo: Repo) -> AsyncIterator[Seat]:
    """Hold a seat; raises what the launch would be refused with."""
    async with aclosing(admitting(admission, repo)) as steps:
        async for step in steps:
            if isinstance(step, Seat):
                yield step
                return


async def refused(admission: Admission, repo: Repo) -> None:
    with pytest.raises(QuotaExceeded, match="The one seat"):
        async with seated(admission, repo):
            raise AssertionError("a seat was given twice")


async def happens(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (what is waited for sets no event)
            await asyncio.sleep(0.01)


async def released(rest: SmallHub, count: int = 1) -> None:
    await happens(lambda: sum(call.startswith("DELETE /pangeo") for call in rest.calls) >= count)


async def hold(admission: Admission, repo: Repo, until: asyncio.Event) -> None:
    async with seated(admission, repo):
        await until.wait()


@pytest.mark.parametrize("binders", [1, 3])
async def test_many_clicks_at_once_get_one_seat(
    new_admission: NewAdmission, policy: Policy, repo: Repo, binders: int
) -> None:
    asked, leave = [new_admission(policy) for _ in range(binders)], asyncio.Event()
    tasks = [asyncio.create_task(hold(asked[number % binders], repo, leave)) for number in range(21)]
    await happens(lambda: sum(task.done() for task in tasks) == 20)
    assert all(isinstance(task.exception(), QuotaExceeded) for task in tasks if task.done())
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(task.exception() is None for task in tasks) == 1


async def test_a_launch_that_leaves_gives_the_seat_back(admission: Admission, repo: Repo, rest: SmallHub) -> None:
    async with seated(admission, repo):
        await refused(admission, repo)
    await released(rest)
    with pytest.raises(RuntimeError):
        async with seated(admission, repo):
            raise RuntimeError("whatever ends the launch")
    await released(rest, 2)
    async with seated(admission, repo) as seat:
        assert seat.grant.tier == "small" and seat.user.startswith("anonymous-sea-")
        launch = seat.launch(ENVIRONMENT, seat.grant)
    assert (launch.id, launch.repo, launch.environment) == (seat.id, repo, ENVIRONMENT)


async def test_a_server_keeps_the_seat_of_its_launch(
    admission: Admission, repo: Repo, rest: SmallHub, hub: Hub
) -> None:
    async with seated(admission, repo) as seat:
        launch = seat.launch(ENVIRONMENT, seat.grant)
        assert [message async for message in hub.start(launch, sign(launch, KEYS, 0))]
        await refused(admission, repo)
    await released(rest)
    await refused(admission, repo)
    rest.servers.clear()
    async with seated(admission, repo):
        pass


async def test_a_launch_cancelled_while_it_asks_holds_nothing(admission: Admission, repo: Repo, rest: SmallHub) -> None:
    rest.go_on.clear()  # the hub makes the reservation, and answers too late
    asking = asyncio.create_task(hold(admission, repo, asyncio.Event()))
    await happens(lambda: any(call.startswith("POST") for call in rest.calls))
    asking.cancel()
    await released(rest)
    rest.go_on.set()
    async with seated(admission, repo):
        pass


async def test_seats_are_renewed_as_long_as_they_are_held(
    admission: Admission, new_admission: NewAdmission, policy: Policy, repo: Repo, rest: SmallHub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.05)
    now = [0.0]
    rest.admissions = AdmissionTable(0, lambda: now[0])
    async with seated(admission, repo):
        for _ in range(4):
            now[0] += EXPIRY_SECONDS / 2
            rest.calls.clear()
            await happens(lambda: sum(call.startswith("PUT") for call in rest.calls) >= 2)
        await refused(new_admission(policy), repo)


async def test_the_seats_of_a_binder_that_stalls_come_back(
    admission: Admission, new_admission: NewAdmission, policy: Policy, repo: Repo, rest: SmallHub
) -> None:
    now = [0.0]
    rest.admissions = AdmissionTable(0, lambda: now[0])
    async with seated(admission, repo) as stalled:
        now[0] += EXPIRY_SECONDS + 1
        async with seated(new_admission(policy), repo):
            await refused(admission, repo)
            assert not rest.admissions.claim(stalled.id), "the hub would start its server"


async def test_a_hub_that_has_just_started_waits_for_the_binders(
    new_admission: NewAdmission, policy: Policy, repo: Repo, rest: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seat that a binder holds over a restart is not given to another before that binder has reported."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    holder, other = new_admission(policy), new_admission(policy)
    async with seated(holder, repo) as seat:
        rest.admissions = AdmissionTable(binders=2)
        messages = []
        with pytest.raises(QuotaExceeded, match="The one seat"):
            async with aclosing(admitting(other, repo)) as steps:
                async for step in steps:
                    assert isinstance(step, Event)
                    messages.append(step.message)
                    holder._report_now.set()
        assert messages[0] == "JupyterHub has just started and is counting what runs.\n"
        assert rest.admissions.claim(seat.id)


async def test_the_gauge_shows_what_the_hub_says(admission: Admission, repo: Repo, rest: SmallHub) -> None:
    rest.servers["sea-1"] = "any ticket"
    admission.start()
    await happens(lambda: REGISTRY.get_sample_value("pangeo_binder_servers", {"tier": "small"}) == 1)


async def test_a_denied_repository_takes_no_seat(admission: Admission, repo: Repo) -> None:
    denied = Repo(RepoRef("git", "https://example.org/org/denied", "main"), repo.revision)
    with pytest.raises(NotAllowed, match="This repository is not allowed here"):
        async with seated(admission, denied):
            pass
    async with seated(admission, repo):
        pass


async def test_without_the_hub_nobody_is_admitted(policy: Policy, repo: Repo) -> None:
    hub = Hub("http://127.0.0.1:1/hub/api", TOKEN, ["key"])
    admission = Admission(policy, hub, Queue(60))
    with pytest.raises(HubUnavailable, match="JupyterHub does not answer"):
        async with seated(admission, repo):
            pass
    await admission.close()
    await hub.close()
