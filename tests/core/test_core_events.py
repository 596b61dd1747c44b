"""The wire format is BinderHub's: its keys, its phases, its event stream."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pangeo_binder.errors import QuotaExceeded
from pangeo_binder.events import KEEPALIVE, Event, Phase, failed, sse, wire
from pangeo_binder.model import Grant, Launch

# the keys and phases BinderHub's clients read: https://binderhub.readthedocs.io/en/latest/api.html
BINDERHUB_KEYS = {"phase", "message", "imageName", "url", "token"}
BINDERHUB_PHASES = {"waiting", "fetching", "building", "built", "launching", "ready", "failed"}


def test_the_phases_are_binderhubs() -> None:
    assert {phase.value for phase in Phase} == BINDERHUB_PHASES


@pytest.mark.parametrize("phase", list(Phase))
def test_every_event_has_phase_and_message_and_no_empty_keys(phase: Phase) -> None:
    assert wire(Event(phase, "")) == {"phase": phase.value, "message": ""}


def test_built_has_the_image_name_and_ready_the_server_url(launch: Launch) -> None:
    built = wire(Event(Phase.BUILT, "Built\n", environment=launch.environment))
    ready = wire(Event(Phase.READY, "Running\n", launch=launch, url="http://h/user/x/", token="s3cret"))
    assert built["imageName"] == launch.environment.id
    assert (ready["url"], ready["token"]) == ("http://h/user/x/", "s3cret")
    assert ready["image"] == launch.environment.id and ready["binder_ref_url"] == launch.repo.ref.url
    assert ready["binder_launch_host"] == "https://binder.example.org/"
    assert (ready["binder_request"], ready["binder_persistent_request"]) == (
        launch.link.request,
        launch.link.persistent_request,
    )
    assert built.keys() | ready.keys() >= BINDERHUB_KEYS


def test_waiting_has_the_grant_and_the_position(grant: Grant) -> None:
    sent = wire(Event(Phase.WAITING, "Full\n", grant=grant, position=3))
    assert sent["position"] == 3
    assert sent["grant"]["dask"]["cores"] == 40
    assert sent["grant"]["storage"]["read"] == ["cmip6"], "the locations of data sets are only for the operator"


def test_failed_has_message_hint_and_reason() -> None:
    sent = wire(failed(QuotaExceeded("All 3 seats are taken.", "Try again.")))
    assert sent == {
        "phase": "failed",
        "message": "All 3 seats are taken.\n",
        "hint": "Try again.",
        "reason": "quota_exceeded",
    }


def test_only_ready_and_failed_end_a_stream() -> None:
    assert {phase for phase in Phase if Event(phase, "").ends} == {Phase.READY, Phase.FAILED}


@pytest.mark.parametrize("message", ["a\nb\n", "data: x\n\nevent: y", "\u2028 ü \0"])
def test_an_event_is_exactly_one_server_sent_event(message: str) -> None:
    line, end, rest = sse(Event(Phase.BUILDING, message)).partition("\n\n")
    assert (end, rest) == ("\n\n", "") and "\n" not in line
    assert json.loads(line.removeprefix("data: "))["message"] == message


def test_equal_texts_do_not_make_events_equal() -> None:
    plain, full = Event(Phase.WAITING, "Full\n"), Event(Phase.WAITING, "Full\n", position=3)
    for event in (plain, full, replace(plain, phase=Phase.BUILDING), plain, full):
        assert json.loads(sse(event).removeprefix("data: ")) == wire(event)


def test_keepalive_is_a_comment() -> None:
    assert KEEPALIVE.startswith(":") and KEEPALIVE.endswith("\n\n")


def test_the_repr_of_an_event_has_no_token(launch: Launch) -> None:
    assert "s3cret" not in repr(Event(Phase.READY, "Running\n", launch=launch, url="http://h/", token="s3cret"))
