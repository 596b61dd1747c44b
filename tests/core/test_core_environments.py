"""An environment keeps its kind through JSON, and only a driver that supports its kind can start it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pangeo_binder.errors import SpawnFailed
from pangeo_binder.model import CondaPrefix, ContainerImage, Environment, Launch, VirtualEnvironment, from_wire, to_wire

ENVIRONMENTS: tuple[Environment, ...] = (
    VirtualEnvironment("sea", "/cache/sea/venv", "/cache/sea/checkout", ("./start",)),
    CondaPrefix("sea", "/cache/sea/conda", "/cache/sea/checkout"),
    ContainerImage("sea", f"registry.example.org/sea@sha256:{'a' * 64}"),
)


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda environment: environment.kind)
def test_an_environment_keeps_its_kind_through_json(launch: Launch, environment: Environment) -> None:
    changed = replace(launch, environment=environment)
    assert from_wire(Launch, json.loads(json.dumps(to_wire(changed)))) == changed


def test_an_image_has_no_directory_and_a_directory_no_image(launch: Launch) -> None:
    *local, image = (replace(launch, environment=environment) for environment in ENVIRONMENTS)
    assert image.image.startswith("registry.example.org/")
    assert [each.local_environment for each in local] == list(ENVIRONMENTS[:2])
    with pytest.raises(SpawnFailed, match="`image`"):
        _ = image.local_environment
    for each in local:
        with pytest.raises(SpawnFailed, match=f"`{each.environment.kind}`"):
            _ = each.image


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"id": "sea", "prefix": "/c/venv", "checkout": "/c/repo", "start": ["./start"]}, ("venv", "/c/venv")),
        (
            {"id": "sea", "prefix": "registry/sea@sha256:0", "checkout": "", "start": []},
            ("image", "registry/sea@sha256:0"),
        ),
    ],
)
def test_the_launch_format_of_version_0_1_can_be_read(
    launch: Launch, written: dict[str, object], read: tuple[str, str]
) -> None:
    wire = to_wire(launch)
    wire["environment"] = written
    wire["repo"] = {"ref": wire["repo"]["ref"], "commit": wire["repo"]["revision"]}
    found = from_wire(Launch, wire)
    assert found.repo == launch.repo
    environment = found.environment
    location = environment.reference if isinstance(environment, ContainerImage) else environment.prefix
    assert (environment.kind, location) == read
