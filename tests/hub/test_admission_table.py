"""The table of reservations: a launch counts once, no limit is exceeded, the seats of a silent binder come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangeo_binder.hub.admissions import EXPIRY_SECONDS, GRACE_SECONDS, AdmissionTable, NotReady
from pangeo_binder.names import new_launch_id
from pangeo_binder.policy.counters import Full, Limit, Renewal, Reservation, parts_of

SEATS = Limit(("total/servers",), 2)
TAKES = {"total/servers": 1.0}


class Clock:
    """Time as a test sets it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(clock: Clock) -> AdmissionTable:
    """A table of a hub that has heard all its binders."""
    return AdmissionTable(0, clock)


def wanted(launch: str = "", *limits: Limit, takes: dict[str, float] | None = None) -> Reservation:
    return Reservation(launch or new_launch_id(), takes or TAKES, limits or (SEATS,))


def renewal(*reservations: Reservation, binder: str = "one") -> Renewal:
    return Renewal(binder, reservations)


def test_seats_run_out_and_come_back(table: AdmissionTable) -> None:
    first = wanted()
    assert table.reserve(first, {}) is None and table.reserve(wanted(), {}) is None
    assert table.reserve(wanted(), {}) == Full(0, 2)
    table.release(first.launch)
    assert table.reserve(wanted(), {}) is None


def test_servers_and_reservations_count_together(table: AdmissionTable) -> None:
    assert table.reserve(wanted(), {new_launch_id(): TAKES}) is None
    assert table.reserve(wanted(), {new_launch_id(): TAKES}) == Full(0, 2)


def test_a_launch_with_reservation_and_server_counts_once(table: AdmissionTable) -> None:
    first = wanted()
    assert table.reserve(first, {}) is None
    assert table.reserve(wanted(), {first.launch: TAKES}) is None
    assert table.reserve(wanted(), {first.launch: TAKES}) == Full(0, 2)


def test_asking_again_for_the_same_launch_takes_no_second_seat(table: AdmissionTable) -> None:
    first = wanted()
    assert [table.reserve(first, {}) for _ in range(3)] == [None] * 3
    assert table.reserve(wanted(), {}) is None


def test_a_server_that_takes_less_than_was_reserved_gives_the_rest_back(table: AdmissionTable) -> None:
    cores = Limit(("total/dask_cores",), 10)
    first = wanted("", cores, takes={"total/dask_cores": 8})
    assert table.reserve(first, {}) is None
    assert table.reserve(wanted("", cores, takes={"total/dask_cores": 8}), {}) == Full(0, 8)
    running = {first.launch: {"total/dask_cores": 2.0}}
    assert table.reserve(wanted("", cores, takes={"total/dask_cores": 8}), running) is None


def test_the_first_limit_that_is_full_is_named(table: AdmissionTable) -> None:
    near, rule = Limit(("rule/a/network/n",), 5), Limit(("rule/a/servers", "rule/sha256:0/servers"), 3)
    running = {new_launch_id(): {"rule/a/servers": 1.0, "total/servers": 1}}
    running[new_launch_id()] = {"rule/sha256:0/servers": 2.0}
    asked = wanted("", near, rule, SEATS, takes={"rule/a/servers": 1, "total/servers": 1})
    assert table.reserve(asked, running) == Full(1, 3), "launches from before the rule was named count as well"


def test_a_reservation_expires_unless_it_is_renewed(table: AdmissionTable, clock: Clock) -> None:
    kept, silent = wanted(), wanted()
    assert table.reserve(kept, {}) is None and table.reserve(silent, {}) is None
    clock.now += EXPIRY_SECONDS - 1
    assert table.renew(renewal(kept), {}) == ()
    clock.now += 2
    assert table.reserve(wanted(), {}) is None
    assert table.reserve(wanted(), {}) == Full(0, 2)
    assert table.claim(kept.launch) and not table.claim(silent.launch)


def test_an_expired_seat_is_taken_again_only_while_it_is_free(table: AdmissionTable, clock: Clock) -> None:
    first, second = wanted(), wanted()
    assert table.reserve(first, {}) is None and table.reserve(second, {}) is None
    clock.now += EXPIRY_SECONDS
    assert table.reserve(wanted(), {}) is None
    assert table.renew(renewal(first, second), {}) == (second.launch,)
    assert table.claim(first.launch) and not table.claim(second.launch)


def test_a_seat_is_claimed_once(table: AdmissionTable) -> None:
    first = wanted()
    assert table.reserve(first, {}) is None
    assert [table.claim(first.launch), table.claim(first.launch)] == [True, False]
    assert not table.claim(new_launch_id())


def test_a_renewal_for_a_running_server_makes_no_reservation(table: AdmissionTable) -> None:
    first = wanted()
    assert table.renew(renewal(first), {first.launch: TAKES}) == ()
    assert not table.claim(first.launch)


def test_after_a_restart_the_hub_gives_no_seat_before_the_binders_have_reported(clock: Clock) -> None:
    table, held = AdmissionTable(2, clock), [wanted(), wanted()]
    for binder, each in zip(("one", "two"), held, strict=True):
        with pytest.raises(NotReady):
            table.reserve(wanted(), {})
        assert table.renew(renewal(each, binder=binder), {}) == ()
    assert table.reserve(wanted(), {}) == Full(0, 2)
    assert all(table.claim(each.launch) for each in held)


def test_a_report_counts_when_its_last_part_has_arrived(clock: Clock) -> None:
    table, held = AdmissionTable(1, clock), [wanted("", Limit(("total/servers",), 600)) for _ in range(501)]
    first, last = parts_of("one", held)
    assert table.renew(first, {}) == () and len(first.reservations) == 500
    with pytest.raises(NotReady):
        table.reserve(wanted(), {})
    assert table.renew(last, {}) == ()
    assert table.reserve(wanted(), {}) == Full(0, 501)


def test_a_report_has_at_least_one_part() -> None:
    assert list(parts_of("one", ())) == [Renewal("one", ())]


def test_the_grace_begins_with_the_first_request_and_ends(clock: Clock) -> None:
    table = AdmissionTable(None, clock)
    clock.now += 10 * GRACE_SECONDS
    with pytest.raises(NotReady):
        table.reserve(wanted(), {})
    table.renew(renewal(), {})
    clock.now += GRACE_SECONDS - 1
    with pytest.raises(NotReady):
        table.reserve(wanted(), {})
    clock.now += 1
    assert table.reserve(wanted(), {}) is None


def test_a_report_after_a_restart_exceeds_no_limit(clock: Clock) -> None:
    """A binder that stalled before the restart may report seats that were given to others in the meantime."""
    table, running = AdmissionTable(None, clock), {new_launch_id(): TAKES}
    stale = [wanted(), wanted()]
    assert table.renew(renewal(*stale), running) == (stale[1].launch,)


@given(
    st.lists(st.tuples(st.sampled_from(["reserve", "renew", "claim", "release", "stop", "wait"]), st.integers(0, 5)))
)
def test_no_order_of_requests_exceeds_a_limit(steps: list[tuple[str, int]]) -> None:
    clock = Clock()
    table, running = AdmissionTable(0, clock), {}
    launches = [wanted() for _ in range(6)]
    for step, number in steps:
        each = launches[number]
        if step == "reserve" and each.launch not in running:
            table.reserve(each, running)
        elif step == "renew":
            table.renew(renewal(each, launches[0]), running)
        elif step == "claim" and table.claim(each.launch):
            running[each.launch] = TAKES
        elif step == "release":
            table.release(each.launch)
        elif step == "stop":
            running.pop(each.launch, None)
        elif step == "wait":
            clock.now += EXPIRY_SECONDS / 2
        assert len(running) <= 2
