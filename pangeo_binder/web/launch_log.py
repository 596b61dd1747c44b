"""BinderHub's launch event: one JSON line for each launch that became ready. Binder process.

It says which public repository was launched, not who launched it: no user, network, session or token. Format:
https://github.com/jupyterhub/binderhub/blob/main/binderhub/event-schemas/launch.json
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ..binderhub_metrics import PROVIDERS

log = logging.getLogger("pangeo_binder.web")

SCHEMA: Final = "binderhub.jupyter.org/launch"
VERSION: Final = 6
_CHARACTERS: Final = 2048


@dataclass(frozen=True, slots=True)
class Launched:
    """One launch that became ready."""

    provider: str
    """The provider's name in links, such as `gh`."""
    spec: str
    """The link's part after the provider."""
    ref: str
    """The resolved ref."""
    build_token: bool
    """Whether a launch page proved that a user opened it."""
    origin: str
    """The binder's host."""
    request_origin: str
    """The request's Origin header, else its Sec-Fetch-Site; empty for most programs."""


class LaunchLog:
    """Writer of launch events to handlers of Python's logging; without handlers it writes nothing."""

    def __init__(self, handlers: Sequence[logging.Handler] = ()) -> None:
        self._log = logging.Logger("launch events", logging.INFO)  # of no hierarchy: events go to these handlers only
        for handler in handlers:
            handler.setFormatter(logging.Formatter("%(message)s"))
            self._log.addHandler(handler)

    def write(self, launched: Launched) -> None:
        """Write the event of one launch."""
        if not self._log.handlers:
            return
        body = {
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "schema": SCHEMA,
            "version": VERSION,
            "provider": PROVIDERS.get(launched.provider, launched.provider),
            "spec": launched.spec[:_CHARACTERS],
            "ref": launched.ref,
            "status": "success",
            "build_token": launched.build_token,
            "origin": launched.origin,
            "request_origin": launched.request_origin[:_CHARACTERS],
        }
        self._log.info("%s", json.dumps(body))
