"""Model objects survive JSON unchanged, invalid ones are refused, and a server's state may have no launch."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangeo_binder.model import (
    STATE_KEY,
    Click,
    Grant,
    Launch,
    Link,
    RepoRef,
    ServerGrant,
    from_wire,
    launch_of,
    to_wire,
)


@pytest.mark.parametrize(
    ("domain", "url"), [("", "https://b.example:81/p/"), ("b.example:81", "https://sst-a.b.example:81/p/")]
)
def test_a_click_says_where_a_users_servers_are(domain: str, url: str) -> None:
    click = Click("git", "x", "192.0.2.1", "https://b.example:81/p/", session_domain=domain)
    assert click.hub_url_of("sst-a") == url


def test_a_launch_survives_json_unchanged(launch: Launch) -> None:
    assert from_wire(Launch, json.loads(json.dumps(to_wire(launch)))) == launch


def test_a_launch_without_dask_and_storage_survives_json_unchanged(launch: Launch) -> None:
    little = replace(launch, grant=replace(launch.grant, dask=None, storage=None))
    assert from_wire(Launch, json.loads(json.dumps(to_wire(little)))) == little


def test_a_launch_of_an_earlier_version_can_be_read(launch: Launch) -> None:
    """It held the number of its rule; no rule of today has an identity of that form."""
    wire = to_wire(launch)
    wire["grant"]["rule"] = 2
    del wire["link"]
    assert from_wire(Launch, wire) == replace(launch, grant=replace(launch.grant, rule="#2"), link=Link())


@given(st.builds(RepoRef, st.text(), st.text(), st.text()), st.builds(ServerGrant, cpu=st.floats(0, 1e6)))
def test_any_model_object_survives_json_unchanged(ref: RepoRef, server: ServerGrant) -> None:
    assert from_wire(RepoRef, json.loads(json.dumps(to_wire(ref)))) == ref
    assert from_wire(ServerGrant, json.loads(json.dumps(to_wire(server)))) == server


@pytest.mark.parametrize("wire", [None, {}, [], "x", {"tier": "a"}, {"tier": 1, "rule": "x"}])
def test_an_invalid_grant_is_refused(wire: Any) -> None:
    with pytest.raises(ValueError):
        from_wire(Grant, wire)


def test_model_objects_are_frozen(launch: Launch) -> None:
    for noun in (launch, launch.grant, launch.repo, launch.repo.ref, launch.environment, launch.grant.server):
        name = dataclasses.fields(noun)[0].name  # type: ignore[arg-type]  # pydantic's dataclasses are dataclasses
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(noun, name, getattr(noun, name))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/org/repo.git", "repo"),
        ("https://example.org/org/repo/", "repo"),
        ("git@example.org:repo.git", "repo"),
        ("/home/ada/course", "course"),
    ],
)
def test_a_repository_is_named_by_the_end_of_its_url(url: str, name: str) -> None:
    assert RepoRef("git", url, "HEAD").name == name


def test_a_launch_is_read_from_the_servers_state(launch: Launch) -> None:
    assert launch_of({"name": "", "state": {STATE_KEY: to_wire(launch)}}) == launch


@pytest.mark.parametrize("state", [None, {}, {"pid": 1}, {STATE_KEY: None}, {STATE_KEY: {"id": "x"}}])
def test_a_server_without_a_launch_has_none(state: Any) -> None:
    assert launch_of({"name": "", "state": state}) is None
    assert launch_of({}) is None
