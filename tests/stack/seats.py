"""Reserves seats at a real hub for launches that a test makes itself, without a binder."""

from __future__ import annotations

from pangeo_binder.launch.hub import Hub
from pangeo_binder.model import Launch, to_wire
from pangeo_binder.policy.counters import Renewal, Reservation, takes

PATH = "/pangeo-binder/admissions"


def reservation(launch: Launch) -> Reservation:
    """Return what a binder asks for `launch`, within no limits."""
    return Reservation(launch.id, takes(launch.grant, launch.network, launch.person), ())


def report(*launches: Launch) -> Renewal:
    """Return a binder's report that these launches hold seats; a hub that has just started believes it."""
    return Renewal("tests", tuple(reservation(launch) for launch in launches))


def report_body(*launches: Launch) -> dict[str, object]:
    """Return the report as the hub's API takes it."""
    return to_wire(report(*launches))


async def reserve(hub: Hub, launch: Launch) -> None:
    """Hold a seat for `launch`, for as long as a reservation lasts."""
    assert (await hub.renew(report(launch))).lost == ()
