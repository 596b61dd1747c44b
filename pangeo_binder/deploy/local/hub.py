"""Configures JupyterHub for the local profile: proxy, spawner, roles, and the services it manages."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...hub.admission_api import handlers
from ...hub.admissions import AdmissionTable
from ...hub.dask.gateway import GatewayClusters, GatewayService
from ...hub.local.database import DATABASE_OPTIONS
from ...hub.local.proxy import WatchedTraefikProxy
from ...hub.local.spawner import LocalLaunchSpawner
from ...hub.logins import CLIENT, configure_logins
from ...hub.provision import Provisioner, StorageService
from ...hub.request_limits import limit_requests
from ...hub.request_log import log_request
from ...hub.roles import BINDER, GATEWAY, LAUNCHES, SERVER_TOKEN_SCOPES, STATUS, roles
from ...hub.user_api import user_handlers
from ...local.parent import ends_with_parent
from ...local.processes import STATE_DIR
from ...logs import VARIABLE as LOG_FORMAT
from ...logs import application_logging
from ...loopback import LOOPBACK, LOOPBACK_NAMES
from .values import GATEWAY_PREFIX, START_SECONDS, LocalValues, read_values

_INHERIT = ("UV_", "PIP_", "SSL_", "GIT_", "HTTP", "http", "NO_PROXY", "no_proxy", "REQUESTS_", "CURL_", "LANG", "LC_")
"""Prefixes of variables that services inherit: how this machine reaches package indexes and git servers."""

_FIRST = 1_000_000
"""The priority of a route that comes before all others; traefik's default is the length of the rule."""


def configure(c: Any, state_dir: str) -> None:
    """Configure the hub of the stack at `state_dir`."""
    values = read_values(state_dir)
    limit_requests()
    _hub(c, values)
    _proxy(c, values)
    _spawner(c, values)
    c.JupyterHub.services = _services(values)
    c.JupyterHub.load_roles = roles(logins=values.options.auth != "none")
    if values.options.auth != "none":
        configure_logins(c)


def _hub(c: Any, values: LocalValues) -> None:
    c.JupyterHub.logging_config = application_logging("hub")
    c.JupyterHub.bind_url = values.public_url
    c.JupyterHub.hub_bind_url = f"http://{LOOPBACK}:{values.ports.hub}"
    # the binder answers everything except the hub's own pages, including the addresses of ended sessions
    c.JupyterHub.hub_routespec = "/hub/"
    c.JupyterHub.db_url = f"sqlite:///{values.folder('run')}/hub.sqlite"
    c.JupyterHub.db_kwargs = DATABASE_OPTIONS
    c.JupyterHub.cookie_secret = bytes.fromhex(values.secrets.hub_cookie)
    c.JupyterHub.authenticator_class = "null"
    # users never log in, by design; without this the hub would warn at every start
    c.Authenticator.any_allow_config = True
    # answer a start request at once: launches follow the progress of the spawn instead
    c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0, "log_function": log_request}
    c.JupyterHub.cleanup_servers = True
    # a person has a server for each launch; how many, says the policy
    c.JupyterHub.allow_named_servers = True
    # its default of 100 is one for everybody, so a repository whose servers never start would block all others; every
    # start needs a seat, so the policy's total bounds this already, and its rules bound each repository
    c.JupyterHub.concurrent_spawn_limit = 0


def _proxy(c: Any, values: LocalValues) -> None:
    run = values.folder("run")
    c.JupyterHub.proxy_class = WatchedTraefikProxy
    proxy = c.WatchedTraefikProxy
    proxy.extra_routes = {"/": f"http://{LOOPBACK}:{values.ports.binder}"}
    proxy.traefik_api_url = f"http://{LOOPBACK}:{values.ports.proxy_api}"
    proxy.traefik_api_username = "hub"
    proxy.traefik_api_password = values.secrets.proxy_password
    proxy.static_config_file = str(run / "traefik.toml")
    proxy.dynamic_config_file = str(run / "traefik-routes.toml")
    proxy.extra_dynamic_config = _other_hosts(f"http://{LOOPBACK}:{values.ports.binder}")


def _other_hosts(binder: str) -> dict[str, Any]:
    """Return traefik's route for requests to other host names than loopback's: to the binder, which refuses them.

    So sessions and Dask's dashboards have the same check. Traefik compares names without their port and brackets:
    https://doc.traefik.io/traefik/reference/routing-configuration/http/routing/rules-and-priority/
    """
    names = " || ".join(f"Host(`{name}`)" for name in (*LOOPBACK_NAMES, "::1"))
    router = {"rule": f"!({names})", "service": "other-hosts", "priority": _FIRST}
    return {
        "http": {
            "routers": {"other-hosts": router},
            "services": {"other-hosts": {"loadBalancer": {"servers": [{"url": binder}]}}},
        }
    }


def _spawner(c: Any, values: LocalValues) -> None:
    c.JupyterHub.spawner_class = LocalLaunchSpawner
    spawner = c.LocalLaunchSpawner
    spawner.ticket_keys = values.secrets.ticket_keys
    spawner.state_dir = str(values.state_dir)
    spawner.homes = str(values.folder("homes"))
    spawner.records = str(values.folder("run/launches"))
    spawner.logs = str(values.folder("logs/servers"))
    spawner.allow_origins = list(values.options.allow_origins)
    spawner.admissions = AdmissionTable(binders=1)
    c.JupyterHub.extra_handlers = [*handlers(spawner.admissions), *user_handlers()]
    spawner.server_token_scopes = SERVER_TOKEN_SCOPES
    storage = StorageService(values.storage_admin_url, values.secrets.storage_hub_token)
    spawner.provisioner = Provisioner(storage, GatewayClusters(_gateway_service(values)))
    # many simultaneous launches on a small machine start slowly
    spawner.start_timeout = spawner.http_timeout = START_SECONDS
    # by default JupyterHub waits 65 s for a server that ignores signals, but a launch must be gone within 30 s;
    # Jupyter ends in 6 s
    spawner.interrupt_timeout, spawner.term_timeout, spawner.kill_timeout = 8, 4, 3
    # the hub restarts a dead service, and notices a dead server, within this many seconds
    c.Spawner.poll_interval = 2


def _gateway_service(values: LocalValues) -> GatewayService:
    environment = {
        "DASK_GATEWAY__ADDRESS": f"{values.public_url.rstrip('/')}{GATEWAY_PREFIX}",
        "DASK_GATEWAY__PUBLIC_ADDRESS": GATEWAY_PREFIX,
        "DASK_GATEWAY__PROXY_ADDRESS": f"gateway://{LOOPBACK}:{values.ports.gateway_scheduler}",
        "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
        "DASK_LABEXTENSION__FACTORY__MODULE": "pangeo_binder_session.dask",
        "DASK_LABEXTENSION__FACTORY__CLASS": "attach",
    }
    return GatewayService(values.gateway_url, values.secrets.launches_token, MappingProxyType(environment))


def _services(values: LocalValues) -> list[dict[str, Any]]:
    python = sys.executable
    gateway_url = f"http://{LOOPBACK}:{values.ports.gateway}"
    commands = {
        GATEWAY: [python, "-m", "pangeo_binder.gateway.server", "-f", config_file("gateway", values)],
        "binder": [python, "-m", "pangeo_binder.app", "-f", config_file("binder", values)],
        "culler": [python, "-m", "pangeo_binder.hub.cull", f"--config={config_file('culler', values)}"],
    }
    environment = service_environment(values)
    managed: list[dict[str, Any]] = [
        {"name": name, "command": ends_with_parent(command), "environment": environment, "display": False}
        for name, command in commands.items()
    ]
    for service in managed:
        if service["name"] == GATEWAY:
            service["url"] = gateway_url
        if service["name"] == BINDER and values.options.auth != "none":
            service.update(CLIENT)
    return [
        *managed,
        {"name": "storage", "api_token": values.secrets.storage_service_token},
        {"name": LAUNCHES, "api_token": values.secrets.launches_token},
        {"name": STATUS, "api_token": values.secrets.status_token},
    ]


def service_environment(values: LocalValues) -> dict[str, str]:
    """Return the environment of the stack's services."""
    inherited = {name: value for name, value in os.environ.items() if name.startswith(_INHERIT)}
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    own = {STATE_DIR: str(values.state_dir), "PYTHONUNBUFFERED": "1", LOG_FORMAT: values.options.log_format}
    return {**inherited, "PATH": path, **own}


def config_file(process: str, values: LocalValues) -> str:
    """Write the short configuration file of the hub or a service, and return its path."""
    path = values.folder("config") / f"{process}_config.py"
    more = f"load_subconfig({values.options.authenticator!r})  # noqa: F821\n"
    path.write_text(
        f"from pangeo_binder.deploy.local.{process} import configure\n"
        f"configure(get_config(), {str(values.state_dir)!r})  # noqa: F821\n"
        + (more if process == "hub" and values.options.authenticator else "")
    )
    return str(path)
