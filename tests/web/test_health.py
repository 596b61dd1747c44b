"""Test the health checks: what they report, how often they ask, and a flood of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from tornado.web import RequestHandler

from pangeo_binder.policy.load import default_policy, load_policy
from pangeo_binder.web import health
from pangeo_binder.web.checks import policy_probe, url_probes
from pangeo_binder.web.context import Check
from pangeo_binder.web.health import HealthChecks
from tests.web.webapp import SmallLaunch, WebApp

NO_LAUNCH = SmallLaunch([])


class Peer(RequestHandler):
    """A service that counts who asks for its health."""

    asked = 0

    async def get(self, what: str) -> None:
        Peer.asked += 1
        if what == "slow":
            await asyncio.sleep(3600)
        self.set_status(302 if what == "elsewhere" else 500 if what == "broken" else 200)


def peer(web: WebApp) -> str:
    Peer.asked = 0
    return web.start(NO_LAUNCH, more=[("/peer/(.*)", Peer)]) + "/peer/"


async def test_a_flood_of_requests_asks_each_service_once(web: WebApp, http: aiohttp.ClientSession) -> None:
    checks = HealthChecks(url_probes({"hub": peer(web) + "good"}))
    url = web.start(NO_LAUNCH, health=checks) + "/health"

    async def ask() -> dict[str, object]:
        async with http.get(url) as response:
            assert response.status == 200
            (check,) = (await response.json())["checks"]
            return dict(check)

    found = await asyncio.gather(*(ask() for _ in range(50)))
    again = await ask()
    assert Peer.asked == 1 and found[0]["service"] == "JupyterHub API" and found[0]["ok"] is True
    assert isinstance(again["age_seconds"], float)


async def test_a_result_is_renewed_when_it_is_old(web: WebApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_KEPT_SECONDS", 0)
    checks = HealthChecks(url_probes({"hub": peer(web) + "good"}))
    await checks()
    await checks()
    assert Peer.asked == 2


@pytest.mark.parametrize("what", ["slow", "elsewhere", "broken"])
async def test_a_service_that_does_not_answer_well_is_unhealthy(
    web: WebApp, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(health, "_SECONDS", 0.3)
    checks = HealthChecks(url_probes({"hub": peer(web) + "good", "other": peer(web) + what}))
    url = web.start(NO_LAUNCH, health=checks) + "/health"
    async with http.get(url) as response:
        body = await response.json()
        assert response.status == 503 and [check["ok"] for check in body["checks"]] == [True, False]
    async with http.head(url) as response:
        assert response.status == 503 and await response.read() == b""


async def test_a_client_that_leaves_does_not_end_a_check_of_others(web: WebApp) -> None:
    go_on = asyncio.Event()

    async def slow() -> Check:
        await go_on.wait()
        return Check("x", ok=True)

    checks = HealthChecks({"x": slow})
    first, second = asyncio.create_task(checks()), asyncio.create_task(checks())
    await asyncio.sleep(0)
    first.cancel()
    go_on.set()
    assert await second == [Check("x", ok=True)]


async def test_a_check_that_raises_says_nothing_of_the_inside() -> None:
    async def broken() -> Check:
        raise OSError("10.0.0.1 refused")

    (check,) = await HealthChecks({"x": broken})()
    assert not check.ok and "10.0.0.1" not in check.message


async def test_a_check_that_only_informs_keeps_the_binder_healthy(web: WebApp, http: aiohttp.ClientSession) -> None:
    async def full() -> Check:
        return Check("Pod quota", ok=False, informs=True, counts={"total_pods": 3, "quota": 2})

    async with http.get(web.start(NO_LAUNCH, health=HealthChecks({"Pod quota": full})) + "/health") as response:
        body = await response.json()
    assert (response.status, body["ok"]) == (200, True)
    wanted = {"service": "Pod quota", "ok": False, "total_pods": 3, "quota": 2, "_ignore_failure": True}
    assert wanted.items() <= body["checks"][0].items()


@pytest.mark.parametrize(
    ("edit", "ok"), [(str, True), (lambda text: text + "\ntotal: {servers: 9}\n", False), (lambda text: "{", False)]
)
async def test_the_policy_file_is_compared_with_what_is_used(
    tmp_path: Path, edit: Callable[[str], str], ok: bool
) -> None:
    file = tmp_path / "policy.yaml"
    text = "tiers:\n  t: {server: {cpu: 1, memory: 1G, idle: 10m, max_age: 1h}, dask: none, storage: none}\n"
    file.write_text(text + 'rules:\n  - {repo: "*", tier: t}\n')
    loaded = load_policy(file)
    assert loaded != default_policy()
    file.write_text(edit(file.read_text()))
    check = await policy_probe(file, loaded)()
    assert (check.ok, check.informs) == (ok, True)
