"""The format of the processes' logs: text for people, or one JSON object for each record, with its launch and trace.

A variable of the environment chooses it, because a process also logs before it has read its configuration. Whole
records are written by python-json-logger. Not for the log of a build, which a user reads.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from pythonjsonlogger.json import JsonFormatter

from . import trace

VARIABLE: Final = "PANGEO_BINDER_LOG_FORMAT"
"""The variable that chooses the format: `json`, or anything else for text."""

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_OWN = "pangeo_binder"


def is_json() -> bool:
    """Return whether this process logs JSON."""
    return os.environ.get(VARIABLE) == "json"


class RecordFormatter(JsonFormatter):
    """Formatter of log records as JSON objects on one line.

    Keys: `time` (ISO 8601, UTC), `level`, `service`, `logger`, `message`; `launch_id` and `trace_id` where known;
    `exception` with a traceback.
    """

    def __init__(self, service: str) -> None:
        super().__init__(
            ["levelname", "name", "message"],
            timestamp="time",
            static_fields={"service": service},
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
        )

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Set the object's fields; attributes that other formatters add to a record, such as colours, are left out."""
        every: dict[str, Any] = {}
        super().add_fields(every, record, message_dict)
        names = ("time", "level", "service", "logger", "message", "exception")
        log_data.update({name: every[name] for name in names if name in every})
        if (current := trace.current()) is not None:
            log_data["trace_id"] = current.id
            if current.launch_id:
                log_data["launch_id"] = current.launch_id


def install(service: str, level: str = "INFO") -> None:
    """Write all log records of this process to standard error in the chosen format, from `level` on."""
    handler = logging.StreamHandler()
    handler.setFormatter(RecordFormatter(service) if is_json() else logging.Formatter(_TEXT))
    logging.basicConfig(level=level, handlers=[handler])


def application_logging(
    service: str, *, base: Mapping[str, Any] = MappingProxyType({}), as_json: bool | None = None
) -> dict[str, Any]:
    """Return the `logging_config` of a traitlets application; without `as_json`, in the format of the environment.

    `base` is the application's own configuration, if it has one.

    Such an application has a handler for its own logger alone; without this, what our modules log below a warning would
    be lost, and the rest would have neither time nor format.
    """
    config: dict[str, Any] = {
        **base,
        "loggers": {_OWN: {"level": "INFO"}},
        "root": {"handlers": ["console"], "level": "WARNING"},
    }
    if is_json() if as_json is None else as_json:
        config["formatters"] = {
            **base.get("formatters", {}),
            "record": {"()": f"{_OWN}.logs.RecordFormatter", "service": service},
        }
        config["handlers"] = {"console": {"formatter": "record"}}
    return config
