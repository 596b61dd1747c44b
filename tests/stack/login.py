"""The local profile with logins: JupyterHub's GenericOAuthenticator in front of a real provider.

`up` has no logins, because all its sessions run as one user. So the same stack is started here, by a program of its own
with the arguments of `up` that the tests need.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from pangeo_binder.deploy.local.stack import Stack
from pangeo_binder.deploy.local.values import LocalOptions, free_port
from tests.stack.local import LocalStack
from tests.stack.provider import CLIENT, SECRET

ROOT = Path(__file__).parents[2]
POLICY = """
tiers:
  small: {server: {cpu: 1, memory: 1G, idle: 10m, max_age: 1h}, dask: none, storage: none}
  large: {server: {cpu: 2, memory: 2G, idle: 20m, max_age: 2h}, dask: none, storage: none}
rules:
  - {name: staff, repo: "*", group: staff, tier: large, per_user: 2}
  - {repo: "*", user: bea, deny: "Bea may launch nothing here."}
  - {repo: "*closed", deny: "Only the staff may launch this."}
  - {repo: "*", tier: small}
"""
_AUTHENTICATOR = """
c = get_config()
c.JupyterHub.authenticator_class = "generic-oauth"
oauth = c.GenericOAuthenticator
oauth.client_id, oauth.client_secret = {client!r}, {secret!r}
oauth.oauth_callback_url = {callback!r}
oauth.authorize_url, oauth.token_url = {provider!r} + "authorize", {provider!r} + "token"
oauth.userdata_url = {provider!r} + "userinfo"
oauth.username_claim = "username"
oauth.allow_all = oauth.auto_login = True
oauth.manage_groups = True
oauth.auth_state_groups_key = "oauth_user.groups"
"""


class LoginStack(LocalStack):
    """A running stack; its program also runs the provider."""

    command = (sys.executable, "-m", "tests.stack.login")

    def __init__(self, state_dir: Path, auth: str, policy: str = POLICY) -> None:
        self.provider_port = free_port()
        path = state_dir.parent / "policy.yaml"
        path.write_text(policy)
        options = ("--auth", auth, "--provider-port", str(self.provider_port), "--policy", str(path))
        super().__init__(state_dir, *options)

    @property
    def provider(self) -> str:
        """The provider's address."""
        return f"http://127.0.0.1:{self.provider_port}/"


def _authenticator(folder: Path, hub: str, provider: str) -> Path:
    path, callback = folder / "authenticator.py", f"{hub}hub/oauth_callback"
    path.write_text(_AUTHENTICATOR.format(client=CLIENT, secret=SECRET, callback=callback, provider=provider))
    return path


def main() -> None:
    """Run a stack and its provider until Ctrl-C."""
    parser = argparse.ArgumentParser()
    for name, kind in {"state-dir": Path, "policy": Path, "port": int, "provider-port": int, "auth": str}.items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--no-open", action="store_true")
    given = parser.parse_args()
    hub, provider = f"http://127.0.0.1:{given.port}/", f"http://127.0.0.1:{given.provider_port}/"
    authenticator = str(_authenticator(given.state_dir.parent, hub, provider))
    options = LocalOptions(auth=given.auth, authenticator=authenticator, token=False, queue_seconds=0)
    command = [sys.executable, "-m", "tests.stack.provider", str(given.provider_port), f"{hub}hub/oauth_callback"]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    stack = Stack(given.state_dir, given.policy, options)
    with subprocess.Popen(command, cwd=ROOT) as running:
        try:
            stack.prepare(given.port)
            stack.start()
            for _ in stack.wait_until_ready():
                pass
            print("Ctrl-C stops everything", flush=True)
            for message in stack.watch():
                print(message, flush=True)
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            stack.stop()
            running.terminate()


if __name__ == "__main__":
    main()
