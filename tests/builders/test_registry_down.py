"""A registry that is out of order, or does not answer: a sentence, a bounded number of attempts, and no rebuild."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pangeo_binder import peers
from pangeo_binder.builders.kube.registry import Registry, RegistrySettings, RegistryUnavailable

DIGEST = f"sha256:{'0' * 64}"


@dataclass
class SmallRegistry:
    """A registry with one image, which first answers some requests with an error of its own."""

    broken: int = 0
    calls: list[str] = field(default_factory=list)

    async def manifest(self, request: web.Request) -> web.Response:
        self.calls.append(request.method)
        if self.broken:
            self.broken -= 1
            return web.Response(status=500, text="storage: permission denied on /var/lib/registry")
        return web.Response(headers={"Docker-Content-Digest": DIGEST})


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[SmallRegistry, Registry]]:
    monkeypatch.setattr(peers, "_WAIT_SECONDS", 0)
    small, app = SmallRegistry(), web.Application()
    app.router.add_get("/v2/environments/manifests/one", small.manifest)
    running = TestServer(app, host="127.0.0.1")
    await running.start_server(shutdown_timeout=0.1)
    client = Registry(RegistrySettings(f"127.0.0.1:{running.port}", plain_http=True))
    yield small, client
    await client.close()
    await running.close()


async def test_one_error_is_repeated(server: tuple[SmallRegistry, Registry]) -> None:
    small, client = server
    small.broken = 1
    assert await client.digest("one") == DIGEST
    assert small.calls == ["HEAD", "HEAD"]


async def test_errors_are_no_missing_image(server: tuple[SmallRegistry, Registry]) -> None:
    """Then the environment would be built again."""
    small, client = server
    small.broken = 1000
    for attempt in range(7):
        with pytest.raises(RegistryUnavailable) as caught:
            await client.digest("one")
        assert "registry that keeps this binder's environments" in caught.value.message and caught.value.hint
        assert "permission" not in str(caught.value)
        assert ("is out of order" if attempt < 5 else "does not answer") in caught.value.message
    assert len(small.calls) == 15, "it was asked more often than three times by each of the first five"
