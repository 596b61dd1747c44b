"""The values of a stack: they survive a round trip, are private, and never print their secrets."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from traitlets.config import Config

from pangeo_binder.cli.up import up
from pangeo_binder.deploy.local import hub
from pangeo_binder.deploy.local.binder import configure
from pangeo_binder.deploy.local.values import (
    LocalOptions,
    LocalValues,
    Secrets,
    choose_ports,
    free_port,
    read_values,
    write_values,
)
from pangeo_binder.launch.turns import BuildShares
from pangeo_binder.model import to_wire
from tests.deploy.leaks import texts


@pytest.fixture
def values(tmp_path: Path) -> LocalValues:
    return LocalValues(tmp_path / "state", choose_ports(free_port()), Secrets())


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A umask with which every user can read new files."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_read_returns_the_written_values(values: LocalValues) -> None:
    write_values(values)
    assert read_values(values.state_dir) == values


def test_only_the_owner_can_read_the_file(values: LocalValues, open_umask: None) -> None:
    write_values(values)
    assert mode(values.state_dir / "values.json") == 0o600
    assert mode(values.state_dir) == 0o700
    assert mode(values.folder("run")) == 0o700


def test_the_options_of_up_reach_the_binder(values: LocalValues, monkeypatch: pytest.MonkeyPatch) -> None:
    options = LocalOptions(
        queue_seconds=1,
        build_seconds=2,
        builds=3,
        build_grace_seconds=4,
        allow_origins=("https://a.example",),
        private=(("gh/org/*", "/run/token"),),
    )
    write_values(replace(values, options=options))
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "a token")
    c = Config()
    configure(c, str(values.state_dir))
    binder = c.PangeoBinderHub
    assert (binder.queue_seconds, binder.build_seconds) == (1, 2)
    assert binder.private_repositories == {"gh/org/*": "/run/token"}
    assert binder.build_shares == BuildShares(concurrent=3, per_network=3, per_repository=3, grace_seconds=4)
    assert binder.limits.cors_allow_origin == "https://a.example" and "127.0.0.1" in binder.limits.hosts


def test_a_launch_waits_for_a_seat_as_long_as_a_server_may_take_to_start(values: LocalValues) -> None:
    write_values(values)
    c = Config()
    hub.configure(c, str(values.state_dir))
    (option,) = [option for option in up.params if option.name == "queue_seconds"]
    assert c.LocalLaunchSpawner.start_timeout == values.options.queue_seconds == option.default


def test_the_hubs_commits_do_not_wait_for_the_disk(values: LocalValues) -> None:
    write_values(values)
    c = Config()
    hub.configure(c, str(values.state_dir))
    engine = create_engine(c.JupyterHub.db_url, **c.JupyterHub.db_kwargs)
    with engine.connect() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "journal_mode")]
    engine.dispose()
    assert found == [0, "wal"]


@pytest.mark.parametrize("token", [True, False])
def test_the_binder_needs_the_token_unless_switched_off(
    values: LocalValues, monkeypatch: pytest.MonkeyPatch, token: bool
) -> None:
    values = replace(values, options=LocalOptions(token=token))
    write_values(values)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "a token")
    c = Config()
    configure(c, str(values.state_dir))
    secret = values.secrets.binder_token
    assert c.PangeoBinderHub.login_token == values.binder_token == (secret if token else "")
    assert values.address == values.public_url + (f"?token={secret}" if token else "")
    link = f"{values.public_url}v2/git/x?urlpath=lab"
    assert values.with_token(link) == link + (f"&token={secret}" if token else "")


def test_an_existing_readable_file_becomes_private(values: LocalValues) -> None:
    values.state_dir.mkdir()
    path = values.state_dir / "values.json"
    path.write_text("{}")
    path.chmod(0o644)
    write_values(values)
    assert mode(path) == 0o600


def test_no_secret_is_shown(values: LocalValues) -> None:
    for shown in (repr(values), str(values), repr(values.secrets), f"{values.secrets}", repr([values])):
        assert not any(secret in shown for secret in texts(to_wire(values.secrets)))


def test_secrets_are_long_and_unique() -> None:
    found = [secret for _ in range(20) for secret in texts(to_wire(Secrets()))]
    assert len(set(found)) == len(found)
    assert min(map(len, found)) >= 64


def test_ports_are_all_different() -> None:
    public = free_port()
    ports = to_wire(choose_ports(public))
    assert ports["public"] == public and len(set(ports.values())) == len(ports)


def test_a_directory_without_a_stack_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_values(tmp_path)
