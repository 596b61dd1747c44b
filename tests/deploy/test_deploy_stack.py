"""A running stack keeps its secrets, logs each launch in all its services, and `status` shows what runs."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.leaks import secrets_of
from tests.stack.kernel import Kernel
from tests.stack.local import COMMAND, LocalStack, Session, command_of, events_of, request, until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    running = LocalStack(tmp_path_factory.mktemp("deploy") / "state", "--log-format", "json").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def session(stack: LocalStack) -> Session:
    """A session that a user opened, and that has used its cluster and its storage."""
    headers = {**stack.login, "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    event = list(events_of(stack.url, stack.example("minimal"), **headers))[-1]
    assert event["phase"] == "ready", f"{event}\n{stack.log[-4000:]}"
    session = Session(stack, event)
    assert request(f"{session.url}lab?token={session.token}").status == 200
    until("it has a worker", lambda: any(cluster["workers"] for cluster in session.clusters()), 120)
    with Kernel(session) as kernel:
        kernel.value("import os, s3fs\ns3fs.S3FileSystem().pipe(os.environ['SCRATCH_BUCKET'] + '/a', b'x')")
    return session


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *args], capture_output=True, text=True, timeout=300, check=False)


def leaks(text: str, secrets: dict[str, str]) -> set[str]:
    return {name for secret, name in secrets.items() if secret in text}


def test_no_secret_is_in_a_command_line(stack: LocalStack, session: Session) -> None:
    secrets = secrets_of(stack, session)
    assert len(secrets) >= 15
    lines = [command_of(p) for p in (*stack.processes(), *stack.processes(session.id))]
    assert len(lines) >= 10
    assert not [line for line in lines if leaks(line, secrets)]


def test_no_secret_is_in_a_log(stack: LocalStack, session: Session) -> None:
    secrets = secrets_of(stack, session)
    logs = [path for folder in ("logs", "clusters") for path in (stack.state_dir / folder).rglob("*.log")]
    assert len(logs) >= 4 and session.id in stack.log
    for path in logs:
        assert not leaks(path.read_text(errors="replace"), secrets), path
    printed = stack.output.read_text()
    assert stack.address in printed
    assert not leaks(printed.replace(f"token={stack.values.secrets.binder_token}", ""), secrets)


def test_the_services_log_a_launch_with_its_trace(stack: LocalStack, session: Session) -> None:
    # dask-gateway's proxy has no other format
    texts = [text for text in stack.log.splitlines() if not re.match(r"\[[A-Z] \S+ \S+ Proxy\] ", text)]
    records = [json.loads(text) for text in texts]
    assert {record.get("service") for record in records} >= {"binder", "hub", "gateway", "culler"}
    traced = {record["service"] for record in records if record.get("trace_id") == TRACE}
    assert traced >= {"binder", "hub", "gateway"}
    named = [record for record in records if record.get("launch_id")]
    assert {record["service"] for record in named} >= {"binder", "gateway"}
    assert {record["launch_id"] for record in named} == {session.id}


def test_other_users_cannot_read_files_with_secrets(stack: LocalStack, session: Session) -> None:
    secrets = secrets_of(stack, session)
    holding = [path for path in stack.state_dir.rglob("*") if _holds(path, secrets)]
    assert stack.state_dir / "values.json" in holding
    for path in holding:
        parents = [each for each in (path, *path.parents) if each.is_relative_to(stack.state_dir)]
        assert any(not stat.S_IMODE(each.stat().st_mode) & 0o077 for each in parents), path


def _holds(path: Path, secrets: dict[str, str]) -> bool:
    if "cache" in path.parts or path.is_symlink() or not path.is_file() or path.stat().st_size > 10_000_000:
        return False
    return bool(leaks(path.read_text(errors="replace"), secrets))


def test_status_shows_what_runs(stack: LocalStack, session: Session) -> None:
    done = run("status", "--state-dir", str(stack.state_dir))
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    assert stack.address in shown
    assert re.search(rf"{session.user} +{re.escape(stack.example('minimal'))} +laptop +number 1 +ready", shown), shown
    assert re.search(rf"{session.clusters()[0]['name']} +{session.user}/ +running +1 +4", shown), shown
    assert re.search(rf"{session.id} +{session.user}/ +1 B +10 G +live", shown), shown
    assert not leaks(shown.replace(stack.address, ""), secrets_of(stack, session))


def test_launch_prints_an_address_that_opens(stack: LocalStack, session: Session) -> None:
    options = ("--state-dir", str(stack.state_dir), "--urlpath", "lab/tree/index.ipynb")
    done = run("launch", stack.example("minimal"), *options)
    assert done.returncode == 0, done.stderr
    address = done.stdout.strip()
    assert "/lab/tree/index.ipynb?token=" in address and "?token=" not in done.stderr
    assert request(address).status == 200
    assert request(address.partition("?")[0].replace("lab/tree", "api/contents")).status == 403


def test_versions_include_binderhub(stack: LocalStack) -> None:
    import importlib.metadata

    assert stack.page("versions").json["binderhub"] == importlib.metadata.version("binderhub")
