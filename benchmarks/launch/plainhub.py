"""JupyterHub without any code of this project, for comparison: its default proxy, and servers as local processes.

The default proxy, configurable-http-proxy, is a Node program and not on the Python package index.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from pangeo_binder.deploy.local.values import free_port
from tests.stack.local import until

from .repositories import server_program

PROXY = "configurable-http-proxy"
MISSING = f"""
MISSING: {PROXY} is not on the PATH, so the tables do not compare with an unmodified JupyterHub. To add it:
  npm install --prefix .cache/proxy {PROXY}@5
  PATH="$PWD/.cache/proxy/node_modules/.bin:$PATH" make bench
"""
_CONFIG = """
c = get_config()
c.JupyterHub.bind_url = "http://127.0.0.1:{public}/"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{port}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy}"
c.JupyterHub.authenticator_class = "null"
c.Authenticator.any_allow_config = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "homes/{{username}}"
c.Spawner.cmd = [{server!r}]
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0}}
c.JupyterHub.services = [{{"name": "benchmark", "api_token": {token!r}}}]
scopes = ["admin:users", "servers", "read:servers"]
c.JupyterHub.load_roles = [{{"name": "benchmark", "services": ["benchmark"], "scopes": scopes}}]
"""


@dataclass(frozen=True, slots=True)
class PlainHub:
    """A running hub."""

    api: str
    headers: dict[str, str]
    process: psutil.Process


@contextmanager
def plain_hub() -> Iterator[PlainHub | None]:
    """Start one, yield it, stop it, and leave nothing behind; without the proxy, say so and yield None."""
    if shutil.which(PROXY) is None:
        print(MISSING, file=sys.stderr, flush=True)
        yield None
        return
    folder, port, token = Path(tempfile.mkdtemp(prefix="plain-jupyterhub-")), free_port(), secrets.token_hex(32)
    server = folder / "server"
    server.write_text(server_program())
    server.chmod(0o755)
    config = folder / "jupyterhub_config.py"
    config.write_text(_CONFIG.format(public=free_port(), port=port, proxy=free_port(), server=str(server), token=token))
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "jupyterhub", "-f", str(config)]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        api = f"http://127.0.0.1:{port}/hub/api"
        until("the unmodified JupyterHub answers", lambda: _answers(api), 60)
        yield PlainHub(api, {"Authorization": f"token {token}"}, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(api: str) -> bool:
    try:
        with urllib.request.urlopen(api, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
