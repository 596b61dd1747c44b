"""Test the launch events: BinderHub's format, one for each launch, and nothing about who launched."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pangeo_binder.events import Event, Phase
from pangeo_binder.model import Launch, Repo, RepoRef, VirtualEnvironment
from pangeo_binder.web.launch_log import LaunchLog
from tests.web.test_stream import BUILD, Stream
from tests.web.webapp import GRANT, SmallLaunch, WebApp, good_events

TEXT = {"type": "string"}
SCHEMA = {
    "type": "object",
    "properties": {
        "timestamp": TEXT,
        "schema": {"const": "binderhub.jupyter.org/launch"},
        "version": {"const": 6},
        "provider": {"enum": ["GitHub", "Gist", "GitLab", "Git"]},
        "spec": TEXT,
        "ref": TEXT,
        "status": {"enum": ["success", "failure"]},
        "build_token": {"type": "boolean"},
        "origin": TEXT,
        "request_origin": TEXT,
    },
    "additionalProperties": False,
}
"""Version 6 of BinderHub's schema, with the fields that its EventLog adds."""
REPO = Repo(RepoRef("git", "https://example.org/sst", "main"), "a" * 40)
LAUNCH = Launch(
    "abcdefghijkl", "sst-abc", "", REPO, VirtualEnvironment("e1", "/e1", "/e1/checkout"), GRANT, "192.0.2.1"
)
READY = Event(Phase.READY, "Ready.\n", launch=LAUNCH, url="/user/sst-abc/", token="s3cret")


@pytest.mark.parametrize(("headers", "request_origin"), [({}, ""), ({"Sec-Fetch-Site": "same-origin"}, "same-origin")])
async def test_a_launch_is_one_line(web: WebApp, stream: Stream, headers: dict[str, str], request_origin: str) -> None:
    written = io.StringIO()
    launch_log = LaunchLog([logging.StreamHandler(written)])
    url = web.start(SmallLaunch([Event(Phase.WAITING, "one\n"), READY]), launch_log=launch_log)
    await stream(url + BUILD, **headers)
    (text,) = written.getvalue().splitlines()
    event: dict[str, Any] = json.loads(text)
    Draft202012Validator(SCHEMA | {"required": list(SCHEMA["properties"])}).validate(event)  # type: ignore[call-overload]
    assert (event["provider"], event["spec"], event["ref"]) == ("Git", BUILD.removeprefix("/build/git/"), "a" * 40)
    assert (event["build_token"], event["request_origin"]) == (False, request_origin)
    assert not any(secret in text for secret in ("s3cret", "192.0.2.1", "sst-abc", LAUNCH.id))


async def test_a_build_and_a_failure_are_no_launch(web: WebApp, stream: Stream) -> None:
    written = io.StringIO()
    launch_log = LaunchLog([logging.StreamHandler(written)])
    await stream(web.start(SmallLaunch(good_events("/")), launch_log=launch_log) + BUILD + "?build_only=true")
    await stream(web.start(SmallLaunch([]), launch_log=launch_log) + BUILD)
    assert written.getvalue() == ""
