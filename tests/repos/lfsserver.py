"""A git server that also has the batch API of Git LFS, for the objects that a test stores in it.

Protocol: https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.repos.gitserver import GitHandler, serving


class _Handler(GitHandler):
    server: LfsServer

    def do_POST(self) -> None:
        if not self.path.endswith("/info/lfs/objects/batch"):
            super().do_POST()
            return
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(self.path)
        self._answer(
            self.server.status, json.dumps({"objects": list(map(self.server.entry, asked["objects"]))}).encode()
        )

    def do_GET(self) -> None:
        folder, _, oid = self.path.removeprefix("/").partition("/")
        if folder not in ("stored", "moved"):
            super().do_GET()
            return
        self.server.asked.append(f"{self.path} {self.headers['Authorization']}")
        if folder == "moved":
            self._answer(302, b"", f"{self.server.moved}/stored/{oid}")
        else:
            self._answer(200, self.server.stored[oid])

    def _answer(self, status: int, body: bytes, location: str = "") -> None:
        self.send_response(status)
        self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class LfsServer(ThreadingHTTPServer):
    """The server. `status` is that of batch answers, which link the objects below `links`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.status = 200
        self.links = f"{self.url}/stored"
        self.moved = self.url
        """Where `/moved/<oid>` redirects to."""
        self.stored: dict[str, bytes] = {}
        self.asked: list[str] = []

    def store(self, content: bytes, sent: bytes | None = None) -> str:
        """Store `content`, or what the server sends instead of it, and return the text of its pointer."""
        oid = hashlib.sha256(content).hexdigest()
        self.stored[oid] = content if sent is None else sent
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"

    def entry(self, asked: dict) -> dict:
        if asked["oid"] not in self.stored:
            return {**asked, "error": {"code": 404, "message": "Object does not exist"}}
        download = {"href": f"{self.links}/{asked['oid']}", "header": {"Authorization": "Basic login"}}
        return {**asked, "actions": {"download": download}}


@pytest.fixture
def lfs_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LfsServer]:
    """A server of the repositories in `tmp_path` below `/git/`, with LFS."""
    monkeypatch.setenv("GIT_PROJECT_ROOT", str(tmp_path))
    monkeypatch.setenv("GIT_HTTP_EXPORT_ALL", "1")
    server = LfsServer()
    with serving(server):
        yield server
