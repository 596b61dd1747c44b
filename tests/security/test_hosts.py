"""Every service of the local profile answers only to loopback's host names, so that no other site can point to it."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from pangeo_binder.loopback import LOOPBACK_NAMES, is_named
from tests.stack.local import LocalStack, Session, request, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


def services(stack: LocalStack, session: Session) -> dict[str, str]:
    """Return an address of each service that speaks HTTP, by its port and by the public port.

    Without the ports of dask-gateway's proxy and of Dask's own servers: these do not look at the name.
    """
    ports, path = stack.values.ports, urlsplit(session.url).path
    (cluster,) = session.clusters()
    dashboard = f"/services/dask-gateway/clusters/{cluster['name']}/status"
    server = next(
        connection.laddr.port
        for process in stack.running("jupyter-lab", session.id)
        for connection in process.net_connections("tcp")
        if connection.status == "LISTEN"
    )
    return {
        "binder": stack.url,
        "binder, own port": f"http://127.0.0.1:{ports.binder}/",
        "hub": f"{stack.url}hub/api/",
        "hub, own port": f"http://127.0.0.1:{ports.hub}/hub/api/",
        "gateway": f"{stack.url}services/dask-gateway/api/version",
        "gateway, own port": f"http://127.0.0.1:{ports.gateway_api}/api/version",
        "dashboard": f"http://127.0.0.1:{ports.public}{dashboard}",
        "storage": f"http://127.0.0.1:{ports.storage_admin}/health",
        "session": f"{session.url}api",
        "session, own port": f"http://127.0.0.1:{server}{path}api",
    }


def login(stack: LocalStack, name: str) -> dict[str, str]:
    return stack.login if name.startswith("binder") else {}


@pytest.fixture(scope="module")
def addresses(stack: LocalStack, attacker: Session) -> dict[str, str]:
    until("its cluster runs", lambda: any(each["status"] == "RUNNING" for each in attacker.clusters()), 120)
    return services(stack, attacker)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "[::2]"])
def test_no_service_answers_at_another_host_name(stack: LocalStack, addresses: dict[str, str], host: str) -> None:
    for name, address in addresses.items():
        answer = request(address, Host=host.format(port=urlsplit(address).port), **login(stack, name))
        assert answer.status in (403, 421), (name, answer)


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "localhost"])
def test_every_service_answers_at_loopbacks_names(stack: LocalStack, addresses: dict[str, str], host: str) -> None:
    for name, address in addresses.items():
        answer = request(address, Host=host.format(port=urlsplit(address).port), **login(stack, name))
        assert answer.status == 200, (name, answer)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:80", "LOCALHOST:", "[::1]", "[::1]:8585"])
def test_loopbacks_names_are_equal_in_any_form(host: str) -> None:
    assert is_named(host, LOOPBACK_NAMES)


@pytest.mark.parametrize("host", ["", "localhost.", "[::2]", "127.0.0.1.evil:1", "localhost:x", "evil@localhost"])
def test_other_names_are_different(host: str) -> None:
    assert not is_named(host, LOOPBACK_NAMES)
