"""A session's kernel, used through the server's API as a front end does."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from types import TracebackType

import websocket

from tests.stack.local import Session


@dataclass
class Output:
    """The output of a cell."""

    text: str = ""
    error: str = ""
    images: list[str] = field(default_factory=list)


class Kernel:
    """A new kernel, or a running one with the id `same`; a context manager."""

    def __init__(self, session: Session, same: str = "", name: str = "python3") -> None:
        self._session = session
        self.id = same or self._start(name)

    def _start(self, name: str) -> str:
        started = self._session.request("api/kernels", "POST", {"name": name})
        assert started.status == 201, started
        id_: str = started.json["id"]
        return id_

    def __enter__(self) -> Kernel:
        url = self._session.url.replace("http://", "ws://")
        self._socket = websocket.create_connection(
            f"{url}api/kernels/{self.id}/channels",
            header=[f"Authorization: token {self._session.token}"],
            timeout=30,
        )
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def send(self, code: str) -> str:
        """Send `code` for execution and return the message's id."""
        id_ = uuid.uuid4().hex
        header = {"msg_id": id_, "msg_type": "execute_request", "username": "", "session": "tests", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        self._socket.send(json.dumps(message))
        return id_

    def run(self, code: str, seconds: float = 120) -> Output:
        """Run `code` and return its output."""
        id_, output = self.send(code), Output()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                raw = self._socket.recv()
            except websocket.WebSocketTimeoutException:
                continue
            message = json.loads(raw)
            if message.get("parent_header", {}).get("msg_id") != id_:
                continue
            if _ended(message, output):
                return output
        raise AssertionError(f"the cell did not end within {seconds} s:\n{code}\n{output}")

    def value(self, code: str, seconds: float = 120) -> str:
        """Run `code`, which must not fail, and return its printed text."""
        output = self.run(code, seconds)
        assert not output.error, output.error
        return output.text.strip()


def _ended(message: dict, output: Output) -> bool:
    """Add a message to `output`, and return whether it was the last."""
    kind, content = message["header"]["msg_type"], message["content"]
    if kind == "stream":
        output.text += content["text"]
    elif kind in ("execute_result", "display_data"):
        output.text += content["data"].get("text/plain", "") + "\n"
        if "image/png" in content["data"]:
            output.images.append(content["data"]["image/png"])
    elif kind == "error":
        output.error = f"{content['ename']}: {content['evalue']}\n" + "\n".join(content["traceback"])
    return kind == "status" and content["execution_state"] == "idle"
