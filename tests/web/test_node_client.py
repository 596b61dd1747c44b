"""Test the event stream with BinderHub's own client for Node: the token, build tokens, and events that end it."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from pangeo_binder.web.limits import Limits
from tests.stack.npm import run_client
from tests.web.webapp import SmallLaunch, WebApp, bad_events, good_events

SPEC = "git/https%3A%2F%2Fexample.org%2Fsst/main"


@pytest.mark.parametrize(("token", "end"), [("the token", "ready"), ("another", "failed"), ("", "failed")])
async def test_it_sends_the_token_of_the_local_profile(web: WebApp, token: str, end: str) -> None:
    launch = SmallLaunch(good_events("/user/sst-abc/"))
    url = web.start(launch, login_token="the token")
    events = await asyncio.to_thread(partial(run_client, f"{url}/build/", SPEC, TOKEN=token))
    assert events[-1]["phase"] == end
    assert len(launch.clicks) == (end == "ready")


async def test_it_reads_a_failure_with_all_its_lines(web: WebApp) -> None:
    url = web.start(SmallLaunch(bad_events()))
    events = await asyncio.to_thread(run_client, f"{url}/build/", SPEC)
    assert [event["message"] for event in events] == [event.message for event in bad_events()]


async def test_without_a_build_token_it_reads_why_it_may_not_launch(web: WebApp) -> None:
    url = web.start(SmallLaunch([]), limits=Limits("key", require_build_token=True))
    (event,) = await asyncio.to_thread(run_client, f"{url}/build/", SPEC)
    assert event["phase"] == "failed" and "build token" in event["message"]
