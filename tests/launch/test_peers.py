"""Services that stop answering: they are refused at once, tried one call at a time, and hold up nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from pangeo_binder import peers as module
from pangeo_binder.errors import HostUnavailable, HubUnavailable, UserError
from pangeo_binder.launch import lookups
from pangeo_binder.launch.hub import Hub
from pangeo_binder.launch.lookups import SharedLookups
from pangeo_binder.model import Launch, RepoRef
from pangeo_binder.peers import Peering, PeerKind, Peers
from pangeo_binder.policy.counters import Renewal, Reservation
from pangeo_binder.repos.git import GitProvider
from tests.launch.conftest import KEYS
from tests.launch.hubserver import TOKEN, SmallHub, small_hub
from tests.stack.repository import repository

FAILURES = 3


class Service:
    """A service that answers, fails, or hangs, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: BaseException | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def __call__(self) -> str:
        self.calls += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return "answer"


@pytest.fixture
def service() -> Service:
    return Service()


def peers(seconds: float = 60) -> Peers:
    peering = Peering(
        kind=PeerKind.REPOSITORY_HOST,
        is_failure=lambda error: isinstance(error, TimeoutError),
        refusal=lambda address: HostUnavailable(f"{address} does not answer."),
        failures=FAILURES,
        seconds=seconds,
    )
    return Peers(peering)


async def fail(made: Peers, service: Service, times: int = FAILURES, subject: str = "") -> None:
    service.error = TimeoutError()
    for _ in range(times):
        with pytest.raises(TimeoutError):
            await made.call(service, "sea", subject=subject)


async def refused(made: Peers, service: Service, address: str = "sea") -> bool:
    before = service.calls
    try:
        await made.call(service, address)
    except HostUnavailable as error:
        assert error.message == f"{address} does not answer." and service.calls == before
        return True
    except TimeoutError:
        pass
    return False


async def test_a_peer_that_does_not_answer_is_refused_at_once(service: Service) -> None:
    made = peers()
    await fail(made, service)
    assert await refused(made, service)
    assert REGISTRY.get_sample_value("pangeo_binder_peers_refused", {"kind": "repository_host"}) == 1
    assert not await refused(made, service, "lake"), "another peer is refused"


async def test_failures_count_in_a_row(service: Service) -> None:
    made = peers()
    for _ in range(3):
        await fail(made, service, FAILURES - 1)
        service.error = None
        assert await made.call(service, "sea") == "answer"


async def test_an_error_of_its_own_is_an_answer(service: Service) -> None:
    made = peers()
    await fail(made, service, FAILURES - 1)
    service.error = ValueError()
    with pytest.raises(ValueError):
        await made.call(service, "sea", repeat=True)
    assert service.calls == FAILURES, "it was repeated"
    await fail(made, service, FAILURES - 1)
    assert not await refused(made, service)


async def test_one_repository_closes_its_host_to_no_other(service: Service) -> None:
    made = peers()
    await fail(made, service, 10, "sea/broken")
    assert not await refused(made, service)
    assert await refused(made, service) is False and await refused(made, service)


async def test_one_call_at_a_time_is_tried(service: Service) -> None:
    made = peers(seconds=0)
    await fail(made, service)
    service.answers.clear()
    trial = asyncio.create_task(made.call(service, "sea"))
    await asyncio.sleep(0)
    assert await refused(made, service)
    trial.cancel()
    await asyncio.wait({trial})
    second = asyncio.create_task(made.call(service, "sea"))
    await asyncio.sleep(0)
    assert await refused(made, service), "a trial whose launch left is not the last one"
    service.error = None
    service.answers.set()
    assert await second == "answer" and not await refused(made, service)


async def test_a_failed_trial_refuses_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    made, clock = peers(seconds=60), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    await fail(made, service, FAILURES, "")
    for clock[0] in (1061.0, 1122.0):
        assert not await refused(made, service)
        assert await refused(made, service)
    clock[0] = 1200.0
    service.error = None
    assert not await refused(made, service) and not await refused(made, service)


async def test_quick_failures_are_repeated_a_bounded_number_of_times(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0)
    made, service.error = peers(), TimeoutError()
    with pytest.raises(TimeoutError):
        await made.call(service, "sea", repeat=True)
    assert service.calls == 3
    monkeypatch.setattr(module, "_QUICK_SECONDS", 0)
    with pytest.raises(TimeoutError):
        await made.call(service, "sea", repeat=True)
    assert service.calls == 4, "a call that took long was repeated"


async def test_the_time_of_the_first_call_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0)
    monkeypatch.setattr(module, "_QUICK_SECONDS", 0.4)
    calls = 0

    async def ask() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.3)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await peers().call(ask, "sea", repeat=True)
    assert calls <= 2


async def test_a_probe_is_never_refused_and_shows_that_a_peer_is_back(service: Service) -> None:
    made = peers()
    await fail(made, service)
    with pytest.raises(TimeoutError):
        await made.probe(service, "sea")
    assert await refused(made, service)
    service.error = None
    assert await made.probe(service, "sea") == "answer"
    assert not await refused(made, service)


async def test_a_bounded_number_of_peers_is_remembered(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT", 10)
    made = peers()
    service.answers.clear()
    call = asyncio.create_task(made.call(service, "held"))
    await asyncio.sleep(0)
    service.answers.set()
    for number in range(50):
        await made.call(service, f"host-{number}")
    assert len(made._breakers) <= 11
    assert await call == "answer"


# --- the hub


async def reserve(hub: Hub, launch: Launch) -> UserError | None:
    try:
        await hub.reserve(Reservation(launch.id, {}, ()))
    except HubUnavailable as error:
        return error
    return None


async def test_a_hub_that_restarts_is_not_called_until_a_renewal_reaches_it(
    rest: SmallHub, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0)
    async with small_hub() as gone:
        address = gone.url
    hub = Hub(address, TOKEN, KEYS)
    for _ in range(7):
        error = await reserve(hub, launch)
        assert error is not None and str(error) == "JupyterHub does not answer. Try again in a minute."
    hub._api_url = rest.url
    hub._peers._breakers[rest.url] = hub._peers._breakers[address]
    assert await reserve(hub, launch) is not None and not rest.calls, "it was called before a renewal"
    await hub.renew(Renewal("binder", ()))
    assert await reserve(hub, launch) is None
    await hub.close()


async def test_a_lost_answer_to_a_reservation_is_repeated(
    rest: SmallHub, hub: Hub, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reservation counts a launch once by its id."""
    real, lost = rest.admissions.reserve, []

    def reserve_and_die(*args: object) -> object:
        answer = real(*args)  # type: ignore[arg-type]
        if not lost:
            lost.append(answer)
            monkeypatch.setattr(rest.go_on, "wait", _die)
        else:
            monkeypatch.undo()
        return answer

    async def _die() -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(rest.admissions, "reserve", reserve_and_die)
    assert await reserve(hub, launch) is None
    assert len(rest.calls) == 2


# --- hosts of repositories


@pytest.fixture
async def tarpit() -> AsyncIterator[tuple[str, list[asyncio.StreamReader]]]:
    """A host that accepts connections and never answers, and those that are open."""
    opened: list[asyncio.StreamReader] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(reader)
        while await reader.read(65536):
            pass
        opened.remove(reader)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", opened
    server.close()
    await server.wait_closed()


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not what():  # noqa: ASYNC110 (only the server could set an event)
            await asyncio.sleep(0.02)


async def test_links_to_a_slow_host_hold_up_no_other(tarpit, tmp_path: Path) -> None:
    url, opened = tarpit
    provider, shared = GitProvider(allow_local=True), SharedLookups()
    slow = [RepoRef("git", f"{url}/org/{number}", "main") for number in range(2 * lookups.AT_ONCE)]
    waiting = [asyncio.create_task(shared.resolve(provider, ref)) for ref in slow]
    await until(lambda: len(opened) == lookups.PER_HOST)
    repo = RepoRef("git", repository(tmp_path / "sea", {"README.md": "Sea"}), "main")
    async with asyncio.timeout(20):
        assert len((await shared.resolve(provider, repo)).revision) == 40
    assert len(opened) == lookups.PER_HOST and not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    await until(lambda: not opened)


async def test_a_lookup_ends_with_the_last_launch_that_waits_for_it(tarpit) -> None:
    url, opened = tarpit
    provider, shared, ref = GitProvider(allow_local=True), SharedLookups(), RepoRef("git", f"{url}/org/sea", "main")
    first, second = (asyncio.create_task(shared.resolve(provider, ref)) for _ in range(2))
    await until(lambda: len(opened) == 1)
    first.cancel()
    await asyncio.wait({first})
    await asyncio.sleep(0.1)
    assert opened, "it was ended for the launch that stays"
    second.cancel()
    await asyncio.wait({second})
    await until(lambda: not opened)


async def test_a_host_that_does_not_answer_is_refused_for_every_link_to_it(tarpit) -> None:
    url, _ = tarpit
    provider = GitProvider(allow_local=True, timeout_seconds=0.3)

    async def resolve(number: int) -> str:
        with pytest.raises(HostUnavailable) as caught:
            await provider.resolve(RepoRef("git", f"{url}/org/{number}", "main"))
        return caught.value.message

    said = [await resolve(number) for number in range(7)]
    host = url.removeprefix("http://")
    assert said[0] == f"{url}/org/0 did not answer within 0 seconds."
    assert said[-1] == f"{host} does not answer this binder."


@pytest.mark.parametrize("address", ["http://binder.invalid/org/sea", "http://127.0.0.1:1/org/sea"])
async def test_without_dns_or_a_host_the_person_is_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0)
    monkeypatch.delenv("http_proxy", raising=False)
    with pytest.raises(HostUnavailable, match="cannot be reached from this binder") as caught:
        await GitProvider().resolve(RepoRef("git", address, "main"))
    assert "try again in a minute" in caught.value.hint


async def test_a_hub_without_dns_does_not_answer(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0)
    hub = Hub("http://hub.invalid/hub/api", TOKEN, KEYS)
    error = await reserve(hub, launch)
    assert error is not None and error.message == "JupyterHub does not answer."
    await hub.close()
