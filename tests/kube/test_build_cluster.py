"""Real builds in real pods make an image, keep secrets from hostile steps, and show each line once."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from pangeo_binder.addresses import make_rules
from pangeo_binder.builders.base import BuildEvent
from pangeo_binder.builders.kube.builder import KubeBuilder
from pangeo_binder.builders.kube.job import KubeBuildSettings
from pangeo_binder.builders.kube.registry import RegistrySettings
from pangeo_binder.builders.pod_layout import ENGINES
from pangeo_binder.errors import BuildFailed
from pangeo_binder.model import Repo, RepoRef
from tests.builders.hostile import FILE, tarred
from tests.builders.registryserver import RegistryServer, credentials, htpasswd, run_registry
from tests.builders.test_archive_build import SWHID, archived
from tests.kube.builds import NAMESPACE, lines, prepare
from tests.repos.fileserver import FileServer, served
from tests.repos.gitrepo import git, make_repository
from tests.repos.gitserver import GitHandler
from tests.stack.images import archive, base_archive, image
from tests.stack.node import Cluster

pytestmark = pytest.mark.timeout(600)
COUNT = "RUN for i in $(seq 1 40); do echo counted $i; sleep 0.1; done"


@pytest.fixture(scope="module")
def base(cluster: Cluster) -> str:
    """The base image of the repositories' Dockerfiles; also prepares the cluster for builds."""
    prepare(cluster)
    cluster.load(archive("builder"))
    return cluster.push(base_archive(), "base:1")


@pytest.fixture(scope="module")
def guarded(cluster: Cluster, base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry for environments that requires a password, which is in a Secret of the builds' namespace."""
    folder = tmp_path_factory.mktemp("guarded")
    with run_registry(folder, htpasswd(folder), cluster.host) as server:
        login = credentials(folder / "login.json", server.address).read_bytes()
        secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson"}
        data = {".dockerconfigjson": base64.b64encode(login).decode()}
        cluster.apply(secret | {"metadata": {"name": "push", "namespace": NAMESPACE}, "data": data})
        yield server


@pytest.fixture
def repo_with(cluster: Cluster, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """Make a repository with a Dockerfile on the base image, which pods can clone."""
    monkeypatch.setenv("GIT_PROJECT_ROOT", str(tmp_path))
    monkeypatch.setenv("GIT_HTTP_EXPORT_ALL", "1")
    server = ThreadingHTTPServer((cluster.host, 0), GitHandler)
    server.backend = str(Path(git("--exec-path", cwd=tmp_path)) / "git-http-backend")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def make(*steps: str) -> Repo:
        path = make_repository(tmp_path / "sea", {"Dockerfile": "\n".join([f"FROM {base}", *steps, ""])})
        ref = RepoRef("git", f"http://{cluster.host}:{server.server_port}/git/sea", "main")
        return Repo(ref, git("rev-parse", "HEAD", cwd=path))

    yield make
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The engine that makes images; each has to pass the tests with this fixture."""
    return str(request.param)


@pytest.fixture
async def builder(cluster: Cluster, base: str) -> AsyncIterator[Callable[..., KubeBuilder]]:
    """Make builders with the binder's own rights."""
    registry = RegistrySettings(cluster.registry, plain_http=True)
    settings = KubeBuildSettings(
        namespace=NAMESPACE, image=image("builder"), registry=registry, plain_http_registries=(cluster.registry,)
    )
    settings = dataclasses.replace(settings, git=make_rules([cluster.host]))
    account = cluster.kubeconfig_for(f"{NAMESPACE}/binder")
    async with AsyncExitStack() as stack:

        def make(**changes: object) -> KubeBuilder:
            made = KubeBuilder(dataclasses.replace(settings, **changes), str(account))
            stack.push_async_callback(made.close)
            return made

        yield make
    cluster.kubectl("delete", "jobs", "--all", "-n", NAMESPACE, "--cascade=foreground")


async def test_an_image_is_built_pushed_and_runs(cluster, builder, repo_with, engine):
    repo = repo_with("RUN useradd -u 1000 jovyan && echo kept > /kept", "COPY . /srv/sea", "USER 1000")
    told: list[BuildEvent] = []
    await lines(builder(engine=engine), told, repo)
    environment = told[-1].environment
    assert environment == await builder().find(repo) and environment.reference.startswith(f"{cluster.registry}/")
    command = ["--command", "--", "sh", "-c", "id -u; cat /kept; ls /srv/sea"]
    run = ["run", f"tried-{engine}", f"--image={environment.reference}", "--restart=Never", "-n", "default", *command]
    cluster.kubectl(*run)
    cluster.kubectl("wait", f"pod/tried-{engine}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
    assert cluster.kubectl("logs", f"tried-{engine}").split() == ["1000", "kept", "Dockerfile"]


async def test_the_files_of_an_archive_are_built(cluster, base, builder, tmp_path):
    dockerfile = f"FROM {base}\nCOPY . /srv/sea\nRUN ls /srv/sea\n".encode()
    make = tarred((f"{SWHID}/Dockerfile", FILE, dockerfile, ""), (f"{SWHID}/sea.txt", FILE, b"warm", ""))
    with served(FileServer(cluster.host)) as server:
        repo = await archived(server, make, tmp_path)
        events: list[BuildEvent] = []
        await lines(builder(), events, repo)
    log = [event.line for event in events[:-1]]
    assert "Unpacked 3 files and folders, 0.0 MiB" in log and "sea.txt" in log
    assert events[-1].environment is not None and await builder().find(repo) == events[-1].environment


async def test_hostile_steps_find_no_password_and_no_token(cluster, guarded, builder, repo_with, tmp_path, engine):
    login = credentials(tmp_path / "login.json", guarded.address)
    settings = RegistrySettings(guarded.address, plain_http=True, credentials=login)
    token = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git", "namespace": NAMESPACE}}
    cluster.apply({**token, "stringData": {"token": "s3cret-of-git"}})
    closed, init = ("/push-secret", "/git-token", "/var/run/secrets", "/image"), "/proc/1/root"
    look = f"env; ls {' '.join(closed)} {init}/push-secret {init}/git-token {init}/run/secrets"
    find = "find / /proc/*/root/ -maxdepth 3 -name '*dockerconfig*' -o -maxdepth 5 -name token | sed s/^/found:/"
    events: list[BuildEvent] = []
    repo = repo_with(f"RUN {look}; {find}; cat /proc/*/environ | tr '\\0' '\\n'; id; echo looked")
    made = builder(registry=settings, push_secret="push", token_secret=lambda url: "git", engine=engine)
    await lines(made, events, repo)
    log = [event.line for event in events[:-1]]
    assert events[-1].environment and "looked" in log and any(line.startswith("uid=0") for line in log)
    assert log.index(next(line for line in log if line.startswith("Fetching"))) < log.index("looked")
    for place in closed:
        assert any(f"cannot access '{place}'" in line for line in log)
    assert not [line for line in log if line.startswith("found:") or "s3cret" in line or "TOKEN" in line]


@pytest.fixture
def bounded(cluster: Cluster, base: str) -> Iterator[None]:
    """Builds that reach the machine's servers above the API server's port and below it, and not the API server."""
    port = int(cluster.server.rpartition(":")[2])
    ranges = [{"port": 1024, "endPort": port - 1}, {"port": port + 1, "endPort": 65535}]
    to = {"to": [{"ipBlock": {"cidr": f"{cluster.host}/32"}}], "ports": ranges}
    meta = {"name": "bounded", "namespace": NAMESPACE}
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [to]}
    cluster.apply({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec})
    yield
    cluster.kubectl("delete", "networkpolicy", "bounded", "-n", NAMESPACE)


async def test_steps_reach_what_the_network_policy_lets_them(cluster, bounded, builder, repo_with, engine):
    ports = [address.rpartition(":")[2] for address in (cluster.registry, cluster.server)]
    connect = f"from socket import *; print('reached', create_connection(('{cluster.host}', {{}}), 5).getpeername()[1])"
    steps = [f'RUN python3 -c "{connect.format(port)}" || echo refused {port}' for port in ports]
    shown = await lines(builder(engine=engine), repo=repo_with(*steps))
    assert [
        line for line in shown if line in {f"{word} {port}" for word in ("reached", "refused") for port in ports}
    ] == [
        f"reached {ports[0]}",
        f"refused {ports[1]}",
    ]


async def test_a_failing_step_is_named_and_its_lines_are_in_the_log(builder, repo_with, engine):
    events: list[BuildEvent] = []
    with pytest.raises(BuildFailed, match="failed at the step `RUN echo before; exit 3`"):
        await lines(builder(engine=engine), events, repo_with("RUN echo before; exit 3"))
    assert "before" in [event.line for event in events]


async def test_a_binder_that_comes_later_gets_the_whole_log_and_every_line_once(builder, repo_with, engine):
    repo, events = repo_with(COUNT), []
    first = builder(engine=engine)
    following = asyncio.create_task(lines(first, events, repo))
    async with asyncio.timeout(200):
        while not any(event.line == "counted 3" for event in events):  # noqa: ASYNC110 - another process's log
            await asyncio.sleep(0.1)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    log = [line for line in await lines(builder(engine=engine), repo=repo) if line.startswith("counted ")]
    assert log == [f"counted {number}" for number in range(1, 41)]


async def test_a_build_over_its_time_is_ended_with_its_pod(cluster, builder, repo_with):
    with pytest.raises(BuildFailed, match="took longer than 15s"):
        await lines(builder(timeout_seconds=15), repo=repo_with("RUN sleep 1001"))
    cluster.kubectl("wait", "pods", "--all", "-n", NAMESPACE, "--for=delete", "--timeout=60s")


async def test_a_build_over_its_memory_is_reported(builder, repo_with):
    take = "RUN python3 -c 'x = bytearray(900 << 20); print(len(x))'"
    small = {"memory_request_bytes": 200 << 20, "memory_limit_bytes": 600 << 20}
    with pytest.raises(BuildFailed) as caught:
        await lines(builder(**small), repo=repo_with(take))
    assert "more memory" in caught.value.message or "at the step `RUN python3" in caught.value.message
