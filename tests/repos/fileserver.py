"""An HTTP server of the files and answers that a test stores in it, as archives and their storage send them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        if self.path in self.server.silent:
            self.server.ends.wait()
            self.close_connection = True
            return
        if self.path in self.server.answers:
            self._answer(self.server.answers[self.path])
            return
        statuses = self.server.statuses.get(self.path, [])
        status = statuses.pop(0) if statuses else 200
        if self.path in self.server.moved:
            status = 302
        body = self.server.files.get(self.path)
        if body is None and status == 200:
            status = 404
        self.send_response(status)
        self.send_header("Location", self.server.moved.get(self.path, ""))
        content = (body or b"") if status == 200 else b""
        length = len(content) + (1 if self.path in self.server.breaks else 0)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    do_POST = do_GET

    def log_message(self, *args: object) -> None:
        pass


class FileServer(ThreadingHTTPServer):
    """The server; a path that is not in `files` is not found."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), _Handler)
        self.url = f"http://{host}:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        """Where a path redirects to."""
        self.statuses: dict[str, list[int]] = {}
        """The statuses of a path's next answers; then 200."""
        self.breaks: set[str] = set()
        """Paths whose connection ends before the whole file was sent."""
        self.answers: dict[str, Answer] = {}
        """What paths answer in place of their file."""
        self.silent: set[str] = set()
        """Paths that are not answered until the server ends."""
        self.ends = threading.Event()
        self.asked: list[str] = []


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    """A server of files."""
    with served(FileServer()) as server:
        yield server


@contextmanager
def served(server: FileServer) -> Iterator[FileServer]:
    """Run `server` in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,))
    thread.start()
    yield server
    server.ends.set()
    server.shutdown()
    thread.join()
    server.server_close()
