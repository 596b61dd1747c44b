"""Send hostile requests from a generator to the hub's admission API: each is refused, and none is an internal error."""

from __future__ import annotations

import json
import random
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.hub.hubprocess import HubProcess
from tests.stack.seats import PATH

pytestmark = pytest.mark.timeout(300)

REQUESTS = 400
_TEXTS = ("", "a/servers", "abcdefghijkl", "../..", "\x00", "\ud800", "é" * 300, "total/servers", "NaN", "launch")
_NUMBERS = (0, 1, -1, 1e308, float("inf"), float("nan"), 10**400, True, None)
_FIELDS = ("launch", "takes", "limits", "keys", "allowed", "binder", "reservations", "x")
_PATHS = (PATH, f"{PATH}/", f"{PATH}/abcdefghijkl", f"{PATH}/%00", f"{PATH}/{'a' * 3000}", f"{PATH}?_xsrf=1")


def value(of: random.Random, depth: int = 0) -> Any:
    """Return a value that JSON can express, more or less like a reservation."""
    kind = of.random()
    if depth > 4 or kind < 0.3:
        return of.choice((*_TEXTS, *_NUMBERS))
    if kind < 0.5:
        return [value(of, depth + 1) for _ in range(of.randrange(4))]
    return {of.choice((*_FIELDS, *_TEXTS)): value(of, depth + 1) for _ in range(of.randrange(5))}


def body(of: random.Random) -> bytes:
    """Return the body of a request: JSON, broken JSON, or no JSON."""
    text = json.dumps(value(of)).encode()
    spoiled = (text[: len(text) // 2], b"[" * 200_000, b'{"a":' * 100_000, of.randbytes(50), b"", text + b"}")
    return text if of.random() < 0.6 else of.choice(spoiled)


def status_of(hub: HubProcess, of: random.Random) -> int:
    """Send one request and return the status of its answer."""
    token = hub.tokens[of.choice(("binder", "binder", "binder", "culler"))]
    headers = {"Authorization": f"token {token}", "Content-Type": of.choice(("application/json", "text/plain", "x"))}
    method, address = of.choice(("POST", "PUT", "DELETE", "PATCH", "GET")), f"{hub.values.hub_api}{of.choice(_PATHS)}"
    request = urllib.request.Request(address, body(of), headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def test_no_request_breaks_the_hub(hub: HubProcess) -> None:
    of = random.Random(1)
    begins = hub.log_file.stat().st_size
    statuses = {status_of(hub, of) for _ in range(REQUESTS)}
    assert {400, 403, 404} <= statuses and max(statuses) < 500
    assert hub.ask("binder", "GET", "/").status == 200
    assert "Traceback" not in hub.log_file.read_bytes()[begins:].decode(errors="replace")
