"""The format of logs: one JSON object for each record, whatever logs it, with the launch and the trace."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

from pangeo_binder import trace
from pangeo_binder.logs import VARIABLE, RecordFormatter

APPLICATION = """
import logging
from traitlets.config import Application
from pangeo_binder.logs import application_logging

class Service(Application):
    name = "service"
    log_level = logging.INFO
    logging_config = application_logging("service")

service = Service()
service.log.warning("its own")
logging.getLogger("pangeo_binder.part").info("of a module")
logging.getLogger("another").warning("of a library")
logging.getLogger("another").info("not shown")
"""
INSTALLED = """
import logging
from pangeo_binder.logs import install
install("storage")
logging.getLogger("pangeo_binder.part").info("two\\nlines")
"""


GATEWAY = """
import logging
from pangeo_binder.gateway.server import LaunchGateway
LaunchGateway().log.info("its own")
logging.getLogger("pangeo_binder.part").info("of a module")
"""


def logged(code: str, log_format: str) -> list[str]:
    environment = {**os.environ, VARIABLE: log_format}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stderr.splitlines()


def test_a_record_has_its_launch_and_trace_and_no_colours() -> None:
    trace.enter("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a1")
    record = logging.LogRecord("pangeo_binder.part", logging.INFO, "a.py", 1, "Launch %s\n\x1b[31m", ("a1",), None)
    record.color, record.end_color = "<red>", "</red>"
    text = RecordFormatter("hub").format(record)
    read = json.loads(text)
    assert "\n" not in text and read.pop("time").endswith("+00:00")
    assert read == {
        "level": "INFO",
        "service": "hub",
        "logger": "pangeo_binder.part",
        "message": "Launch a1\n\x1b[31m",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "launch_id": "a1",
    }


def test_a_traceback_is_part_of_its_record() -> None:
    try:
        raise ValueError("of the test")
    except ValueError:
        record = logging.LogRecord("part", logging.ERROR, "a.py", 1, "It failed", None, sys.exc_info())
    assert "ValueError: of the test" in json.loads(RecordFormatter("hub").format(record))["exception"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_an_application_logs_what_modules_and_libraries_log(log_format: str) -> None:
    lines = logged(APPLICATION, log_format)
    messages = ["its own", "of a module", "of a library"]
    if log_format == "json":
        assert [json.loads(text)["message"] for text in lines] == messages
        assert {json.loads(text)["service"] for text in lines} == {"service"}
    else:
        assert len(lines) == len(messages)
        assert all(text.endswith(message) for text, message in zip(lines, messages, strict=True))


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_dask_gateway_logs_in_the_chosen_format(log_format: str) -> None:
    lines = logged(GATEWAY, log_format)
    texts = [json.loads(text)["message"] for text in lines] if log_format == "json" else lines
    assert len(texts) == 2 and texts[0].endswith("its own") and texts[1].endswith("of a module")


def test_a_process_of_ours_logs_in_the_chosen_format() -> None:
    (record,) = logged(INSTALLED, "json")
    assert json.loads(record)["message"] == "two\nlines"
    assert logged(INSTALLED, "text")[0].endswith("INFO pangeo_binder.part: two")
