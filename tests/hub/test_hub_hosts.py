"""The proxy's routes: each server of a person has a host of its own, as those of anonymous users have."""

from __future__ import annotations

import pytest
from jupyterhub import orm
from jupyterhub.utils import url_escape_path

from pangeo_binder.hub.local.spawner import LocalLaunchSpawner
from pangeo_binder.hub.logins import refuse_anonymous
from pangeo_binder.model import server_address
from pangeo_binder.names import server_name, user_name
from tests.hub.hubprocess import NewLaunch

NAME = server_name("sea", "abcdefghijkl")


def route(server: str, host: str) -> str:
    path = f"{host}/user/ada/{server}/"
    return str(LocalLaunchSpawner(orm_spawner=orm.Spawner(name=server), proxy_spec=path).proxy_spec)


def test_a_persons_server_has_a_host_of_its_own() -> None:
    assert route(NAME, "ada.binder.example") == f"{NAME}.binder.example/user/ada/{NAME}/"
    assert route(NAME, "u-ada--0123456.binder.example") == f"{NAME}.binder.example/user/ada/{NAME}/"


@pytest.mark.parametrize(
    ("server", "host"), [(NAME, ""), ("", "ada.binder.example"), ("eve.x", "ada.binder.example"), ("x", "ada.binder")]
)
def test_other_routes_are_unchanged(server: str, host: str) -> None:
    assert route(server, host) == f"{host}/user/ada/{server}/"


def test_the_binder_writes_names_as_the_hub_does(new_launch: NewLaunch) -> None:
    for name in ("ada", "ada@example.org", "a b", "ü", "a+b", "a~b", "a.b_c-d", "a!'()*,;:=&$"):
        launch = new_launch(user=name, server=NAME)
        assert server_address("/", "", launch) == f"/user/{url_escape_path(name)}/{NAME}/"


async def test_a_login_name_of_an_anonymous_user_is_refused() -> None:
    model = {"name": "ada", "auth_state": None}
    assert await refuse_anonymous(None, None, model) is model
    assert await refuse_anonymous(None, None, None) is None
    with pytest.raises(Exception, match="not possible here"):
        await refuse_anonymous(None, None, {"name": user_name("sea", "abcdefghijkl")})
