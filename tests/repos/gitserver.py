"""Real git servers: git's own CGI program over HTTP, and a server that never answers."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import CGIHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pangeo_binder.addresses import make_rules
from pangeo_binder.git import GitAccess
from tests.repos.gitrepo import git

LOOPBACK = make_rules(networks=["127.0.0.0/8", "::1/128"])
"""Rules that allow these servers, as an operator allows a git server of the own network."""
ACCESS = GitAccess(addresses=LOOPBACK)
_POLL_SECONDS = 0.02
"""How long a server takes at most to notice that it is shut down."""


class _Leavable:
    """A file or socket of a client that may leave: reads then end, and writes are dropped.

    The CGI handler of the standard library leaves its program and its pipes open if a read or write of its own fails.
    """

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    @property
    def _sock(self) -> _Leavable:
        return _Leavable(self._wrapped._sock)

    def recv(self, *args: Any) -> Any:
        return self._try("recv", *args)

    def read(self, *args: Any) -> Any:
        return self._try("read", *args)

    def readline(self, *args: Any) -> Any:
        return self._try("readline", *args)

    def write(self, *args: Any) -> Any:
        return self._try("write", *args)

    def _try(self, name: str, *args: Any) -> Any:
        try:
            return getattr(self._wrapped, name)(*args)
        except ConnectionError:
            return b""


class GitHandler(CGIHTTPRequestHandler):
    """Handler that serves `/git/<name>` through git's own CGI program and requires a login for `/private/`.

    It redirects `/to/<host>/<path>` to `/<path>` on that host and the same port.
    """

    have_fork = False
    cgi_directories = ["/git"]

    def setup(self) -> None:
        super().setup()
        self.rfile, self.wfile = _Leavable(self.rfile), _Leavable(self.wfile)

    def is_cgi(self) -> bool:
        name, _, rest = self.path.removeprefix("/git/").partition("/")
        self.cgi_info = ("/git", "backend/" + name + "/" + rest)
        return self.path.startswith("/git/")

    def translate_path(self, path: str) -> str:
        return self.server.backend if path.startswith("/git/backend") else f"{os.devnull}/none"

    def do_GET(self) -> None:
        if self.path.startswith("/private/"):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path.startswith("/to/"):
            self.send_response(301)
            host, _, path = self.path.removeprefix("/to/").partition("/")
            self.send_header("Location", f"http://{host}:{self.server.server_port}/{path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path.startswith("/git/") and not self._folder.is_dir():
            # the CGI handler of the standard library answers 200 whatever the program's Status says
            self.send_error(404)
            return
        super().do_GET()

    @property
    def _folder(self) -> Path:
        path = self.path.removeprefix("/git/").partition("/info/")[0].partition("?")[0]
        return Path(os.environ["GIT_PROJECT_ROOT"]) / path

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def git_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a server that serves the repositories in `tmp_path` below `/git/`."""
    monkeypatch.setenv("GIT_PROJECT_ROOT", str(tmp_path))
    monkeypatch.setenv("GIT_HTTP_EXPORT_ALL", "1")
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), GitHandler)) as url:
        yield url


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[str]:
    """Run a server of GitHandlers until the block is left, and yield its URL."""
    server.backend = str(Path(git("--exec-path", cwd=Path("/"))) / "git-http-backend")
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def unresponsive_server() -> Iterator[str]:
    """The URL of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
