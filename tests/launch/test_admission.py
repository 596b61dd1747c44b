"""Admission: a place is given to one launch at a time, whatever the hub knows already and however fast people click."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pangeo_binder.errors import HubUnavailable, NotAllowed, QuotaExceeded
from pangeo_binder.launch import admission as module
from pangeo_binder.launch.admission import Admission
from pangeo_binder.launch.hub import Hub
from pangeo_binder.model import Grant, Launch, RepoRef, Server
from pangeo_binder.policy.match import Question
from pangeo_binder.policy.model import Policy
from tests.launch.hubserver import TOKEN

Make = Callable[[Grant], Launch]
QUESTION = Question(RepoRef("git", "https://example.org/org/sea", "main"))


class Servers:
    """A hub that knows what it is told, and answers when it may."""

    def __init__(self) -> None:
        self.launches: list[Launch] = []
        self.asked = 0
        self.made_up = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def servers(self) -> list[Server]:
        """Make the list first and hand it out later, as a slow hub does."""
        self.asked += 1
        found = [Server(launch, True, "/", "", "") for launch in self.launches]
        self.made_up.set()
        await self.may_answer.wait()
        return found


@pytest.fixture
def servers() -> Servers:
    return Servers()


@pytest.fixture
def admission(policy: Policy, servers: Servers) -> Admission:
    return Admission(policy, servers)


async def refused(admission: Admission, make: Make) -> None:
    with pytest.raises(QuotaExceeded, match="The one seat"):
        await admission.take(QUESTION, make)


async def test_many_clicks_at_once_get_one_place(admission: Admission, make: Make) -> None:
    took = await asyncio.gather(*(admission.take(QUESTION, make) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(each, QuotaExceeded) for each in took) == 19


async def test_who_leaves_gives_the_place_back(admission: Admission, make: Make) -> None:
    with await admission.take(QUESTION, make):
        await refused(admission, make)
    with pytest.raises(RuntimeError), await admission.take(QUESTION, make):
        raise RuntimeError("whatever ends the launch")
    with await admission.take(QUESTION, make) as place:
        assert place.launch.grant.tier == "small"


async def test_a_server_counts_before_the_hub_is_asked_again(
    admission: Admission, servers: Servers, make: Make
) -> None:
    with await admission.take(QUESTION, make) as place:
        place.handed_over(place.launch)
    assert servers.asked == 1
    await refused(admission, make)


async def test_what_the_hub_says_counts(
    admission: Admission, servers: Servers, make: Make, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALE_SECONDS", 0)
    servers.launches = [launch]
    await refused(admission, make)
    servers.launches = []
    (await admission.take(QUESTION, make)).__exit__()


async def test_an_old_answer_does_not_hide_a_new_server(
    admission: Admission, servers: Servers, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub made its list, then got the server, then the list arrived: the place is still taken."""
    with await admission.take(QUESTION, make) as place:
        monkeypatch.setattr(module, "STALE_SECONDS", 0)
        servers.may_answer.clear()
        servers.made_up.clear()
        second = asyncio.create_task(admission.take(QUESTION, make))
        await servers.made_up.wait()
        place.handed_over(place.launch)
    servers.may_answer.set()
    with pytest.raises(QuotaExceeded):
        await second
    (await admission.take(QUESTION, make)).__exit__()  # asked anew, the hub knows no server: it has ended


async def test_the_hub_is_not_asked_for_every_click(admission: Admission, servers: Servers, make: Make) -> None:
    for _ in range(5):
        (await admission.take(QUESTION, make)).__exit__()
    assert servers.asked == 1


async def test_a_denied_repository_takes_no_place(admission: Admission, make: Make) -> None:
    denied = Question(RepoRef("git", "https://example.org/org/denied", "main"))
    with pytest.raises(NotAllowed, match="This repository is not allowed here"):
        await admission.take(denied, make)
    (await admission.take(QUESTION, make)).__exit__()


async def test_without_the_hub_nobody_is_admitted(policy: Policy, make: Make) -> None:
    hub = Hub("http://127.0.0.1:1/hub/api", TOKEN, ["key"])
    admission = Admission(policy, hub)
    with pytest.raises(HubUnavailable, match="JupyterHub does not answer"):
        await admission.take(QUESTION, make)
    await hub.close()
