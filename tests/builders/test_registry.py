"""Test the binder's client against a real registry: image found, image absent, login refused, registry down."""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pangeo_binder.answers import MAX_BYTES
from pangeo_binder.builders.kube.registry import Registry, RegistrySettings, RegistryUnavailable
from tests.builders.registryserver import PASSWORD, USER, RegistryServer, basic, credentials, htpasswd, run_registry
from tests.builders.tokenserver import token_server
from tests.stack.loopmeter import loop_meter

if not shutil.which("docker-registry"):
    pytest.skip("LEFT OUT: no docker-registry here", allow_module_level=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry without logins."""
    with run_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry that requires a user and a password."""
    folder = tmp_path_factory.mktemp("guarded")
    with run_registry(folder, htpasswd(folder)) as running:
        running.headers["Authorization"] = f"Basic {basic(USER, PASSWORD)}"
        yield running


@pytest.fixture
async def asking() -> AsyncIterator[Callable[..., Registry]]:
    """Make clients, and close them at the end of the test."""
    async with AsyncExitStack() as stack:

        def make(address: str, file: Path | None = None, **more: object) -> Registry:
            registry = Registry(RegistrySettings(address, plain_http=True, credentials=file, **more))
            stack.push_async_callback(registry.close)
            return registry

        yield make


async def refused(registry: Registry) -> str:
    with pytest.raises(RegistryUnavailable) as caught:
        await registry.digest("one")
    assert caught.value.hint and "127.0.0.1" not in str(caught.value)
    return caught.value.message


async def test_finds_an_images_digest(server, asking):
    digest = server.push("environments", "one")
    registry = asking(server.address)
    assert await registry.digest("one") == digest
    assert registry.settings.pull_reference(digest) == f"{server.address}/environments@{digest}"


async def test_an_absent_image_is_not_an_error(server, asking):
    server.push("environments", "one")
    assert await asking(server.address).digest("two") is None
    assert await asking(server.address, name="nobody/knows").digest("one") is None


async def test_reads_an_images_labels(server, guarded, asking, tmp_path):
    file = credentials(tmp_path / "config.json", guarded.address)
    for target, registry in ((server, asking(server.address)), (guarded, asking(guarded.address, file))):
        assert await registry.labels(target.push("environments", "one", sea="warm")) == {"sea": "warm"}
        assert await registry.labels(target.push("environments", "two")) == {}


async def test_a_document_has_a_bounded_size(server, asking):
    registry = asking(server.address)
    digest = server.push("environments", "one", sea="x" * (MAX_BYTES - 1000))
    async with loop_meter():
        assert len((await registry.labels(digest))["sea"]) == MAX_BYTES - 1000
    with pytest.raises(RegistryUnavailable, match="unexpected answer"):
        await registry.labels(server.push("environments", "one", sea="x" * MAX_BYTES))


async def test_a_missing_manifest_raises_registry_unavailable(server, asking, caplog):
    absent = f"sha256:{'0' * 64}"
    with pytest.raises(RegistryUnavailable, match="gives an unexpected answer"):
        await asking(server.address).labels(absent)
    assert absent in caplog.text
    with pytest.raises(RegistryUnavailable):
        await asking(server.address).labels("../../v2/_catalog")


async def test_pull_push_and_queries_use_their_own_addresses(server, asking):
    digest = server.push("environments", "one")
    registry = asking("nodes.example.org", ask_address=server.address, push_address="pods.example.org:5000")
    assert await registry.digest("one") == digest
    assert registry.settings.push_reference("one") == "pods.example.org:5000/environments:one"
    assert registry.settings.pull_reference(digest).startswith("nodes.example.org/environments@")


@pytest.mark.parametrize("prefix", ["", "http://"])
async def test_logs_in_with_a_password_from_a_file(guarded, asking, tmp_path, prefix):
    digest = guarded.push("environments", "one")
    file = credentials(tmp_path / "config.json", prefix + guarded.address)
    assert await asking(guarded.address, file).digest("one") == digest


@pytest.mark.parametrize("password", ["", "wrong"])
async def test_reports_a_missing_or_wrong_password(guarded, asking, tmp_path, password, caplog):
    file = credentials(tmp_path / "config.json", guarded.address, USER, password) if password else None
    with caplog.at_level(logging.DEBUG):
        assert "does not accept this binder" in await refused(asking(guarded.address, file))
    assert basic(USER, password) not in caplog.text and guarded.address in caplog.text


async def test_sends_a_password_only_to_its_own_registry(guarded, asking, tmp_path):
    file = credentials(tmp_path / "config.json", f"{guarded.address}.example.org")
    assert "does not accept this binder" in await refused(asking(guarded.address, file))


async def test_reads_a_changed_password_again(guarded, asking, tmp_path):
    digest = guarded.push("environments", "one")
    file = credentials(tmp_path / "config.json", guarded.address, USER, "wrong")
    registry = asking(guarded.address, file)
    await refused(registry)
    credentials(file, guarded.address)
    assert await registry.digest("one") == digest


async def test_reuses_a_token_until_it_expires(asking, tmp_path):
    with token_server(tmp_path) as tokens, run_registry(tmp_path / "registry", tokens.auth) as server:
        server.headers["Authorization"] = f"Bearer {tokens.token('repository:environments:pull,push')}"
        digest = server.push("environments", "one")
        registry = asking(server.address, credentials(tmp_path / "config.json", server.address))
        assert [await registry.digest("one"), await registry.digest("one")] == [digest, digest]
        wanted = {"service": ["registry"], "scope": ["repository:environments:pull"]}
        assert tokens.asked == [wanted]
        tokens.seconds = -120
        registry._authorization = f"Bearer {tokens.token('repository:environments:pull')}"
        tokens.seconds = 300
        assert await registry.digest("one") == digest and tokens.asked == [wanted, wanted]


async def test_gets_no_token_without_a_login(asking, tmp_path):
    with token_server(tmp_path) as tokens, run_registry(tmp_path / "registry", tokens.auth) as server:
        assert "does not accept this binder" in await refused(asking(server.address))


async def test_never_sends_a_password_to_a_token_service_without_tls(tmp_path):
    with token_server(tmp_path) as tokens:
        registry = Registry(RegistrySettings("registry.example.org", credentials=None))
        assert await registry._login([f'Bearer realm="{tokens.auth["token"]["realm"]}"']) == ""
        assert tokens.asked == []


async def test_reports_a_registry_that_is_down(asking, tmp_path, caplog):
    with run_registry(tmp_path / "gone") as server:
        registry = asking(server.address)
        assert await registry.digest("one") is None
    with caplog.at_level(logging.WARNING):
        assert "does not answer" in await refused(registry)
    assert "Connect" in caplog.text


class _Sparse(BaseHTTPRequestHandler):
    """Handler that returns the same body for every request, without a digest header."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", self.server.kind)
        self.send_header("Content-Length", "2")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"{}")

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def sparse() -> Iterator[ThreadingHTTPServer]:
    """A server that sends no digests."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Sparse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_hashes_the_manifest_if_the_registry_sends_no_digest(sparse, asking):
    sparse.kind = "application/vnd.oci.image.manifest.v1+json"
    digest = f"sha256:{hashlib.sha256(b'{}').hexdigest()}"
    assert await asking(f"127.0.0.1:{sparse.server_port}").digest("one") == digest


async def test_reports_a_server_that_is_not_a_registry(sparse, asking):
    sparse.kind = "text/html"
    assert "gives an unexpected answer" in await refused(asking(f"127.0.0.1:{sparse.server_port}"))


async def test_reports_an_invalid_credentials_file_without_its_content(guarded, asking, tmp_path, caplog):
    (tmp_path / "config.json").write_text('{"auths": "s3cret')
    assert "does not answer" in await refused(asking(guarded.address, tmp_path / "config.json"))
    assert "s3cret" not in caplog.text
