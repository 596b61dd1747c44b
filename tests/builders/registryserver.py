"""A real container registry on loopback, with or without logins, that holds tiny images."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bcrypt

USER, PASSWORD = "reader", "s3cret-of-the-registry"
_KIND = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class RegistryServer:
    """A running registry."""

    address: str
    process: subprocess.Popen[bytes]
    headers: dict[str, str] = field(default_factory=dict)

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "application/octet-stream") -> Any:
        """Send a request and return the response; `path` may be a full URL."""
        url = path if "://" in path else f"http://{self.address}{path}"
        headers = {"Content-Type": kind, "Accept": _KIND, **self.headers}  # without it, OCI manifests get 404
        return urllib.request.urlopen(urllib.request.Request(url, body or None, headers, method=method), timeout=10)

    def push(self, name: str, tag: str, text: str = "layer", **labels: str) -> str:
        """Push an image of one tiny blob and return its digest."""
        blob = json.dumps({"text": text, "config": {"Labels": labels or None}}).encode()
        digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        upload = self.request("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
        self.request("PUT", f"{upload}&digest={digest}", blob)
        config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(blob), "digest": digest}
        manifest = {"schemaVersion": 2, "mediaType": _KIND, "config": config, "layers": []}
        done = self.request("PUT", f"/v2/{name}/manifests/{tag}", json.dumps(manifest).encode(), _KIND)
        return str(done.headers["Docker-Content-Digest"])


def basic(user: str, password: str) -> str:
    """Return a login encoded for registries and credential files."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def credentials(path: Path, address: str, user: str = USER, password: str = PASSWORD) -> Path:
    """Write a file of credentials."""
    path.write_text(json.dumps({"auths": {address: {"auth": basic(user, password)}}}))
    return path


@contextlib.contextmanager
def run_registry(folder: Path, auth: dict[str, Any] | None = None, host: str = "127.0.0.1") -> Iterator[RegistryServer]:
    """Run a registry that keeps its images in `folder`; `auth` is the `auth` section of its configuration."""
    folder.mkdir(exist_ok=True)
    with socket.create_server((host, 0)) as probe:
        address = f"{host}:{probe.getsockname()[1]}"
    config = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "images")}, "delete": {"enabled": True}},
        "http": {"addr": address, "secret": "only of this test"},
        "auth": auth or {},
    }
    (folder / "registry.yaml").write_text(json.dumps(config))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", folder / "registry.yaml"], stdout=log, stderr=log)
    try:
        _wait_until_listening(address, process, folder / "registry.log")
        yield RegistryServer(address, process)
    finally:
        process.terminate()
        process.wait(20)


def htpasswd(folder: Path) -> dict[str, Any]:
    """Return the `auth` section for a registry that accepts one user."""
    line = f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(5)).decode()}\n"
    (folder / "htpasswd").write_text(line)
    return {"htpasswd": {"realm": "environments", "path": str(folder / "htpasswd")}}


def _wait_until_listening(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    host, port = address.split(":")
    for _ in range(200):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError(f"the registry does not listen: {log.read_text()}")
