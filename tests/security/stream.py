"""Reads event streams as any client may request them."""

from __future__ import annotations

import json
import urllib.request
from typing import Any


def last_event(url: str, **headers: str) -> dict[str, Any]:
    """Return the last event of the stream at `url`, requested with `headers`; then disconnect."""
    sent = {"Accept": "text/event-stream", **{name.replace("_", "-"): value for name, value in headers.items()}}
    with urllib.request.urlopen(urllib.request.Request(url, headers=sent), timeout=120) as response:
        for line in response:
            if line.startswith(b"data:") and (event := json.loads(line[5:]))["phase"] in ("ready", "failed"):
                return event
    raise AssertionError("the stream ended without a last event")
