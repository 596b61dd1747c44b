"""Another user of the machine, who reaches loopback but has no token: nothing is launched, nothing is read."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.stack.kernel import Kernel
from tests.stack.listeners import Listener, listeners
from tests.stack.local import LocalStack, Session, until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
NOBODY = 65534
EVENTS = "Accept: text/event-stream"


@pytest.fixture(scope="module")
def found(stack: LocalStack, attacker: Session) -> Iterator[list[Listener]]:
    """All listeners of the stack, with a session that has a kernel, a scheduler and a worker."""
    scale = "import os\nfrom dask_gateway import Gateway\ngateway = Gateway()\n"
    scale += "cluster = gateway.connect(os.environ['DASK_GATEWAY_CLUSTER'])\ncluster.scale(1)\nprint('asked')"
    with Kernel(attacker) as kernel:
        assert kernel.value(scale) == "asked"
        until("a worker listens", lambda: any(each.name == "worker" for each in listeners(stack, attacker)), 120)
        yield listeners(stack, attacker)


def test_the_documented_listeners_are_those_of_a_running_stack(found: list[Listener]) -> None:
    section = SECURITY.read_text().partition("### Who may speak to which listener")[2].partition("\n#")[0]
    documented = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert {each.name for each in found} == documented
    assert {each.address for each in found} == {"127.0.0.1"}


@pytest.fixture(scope="module")
def others() -> None:
    if os.getuid() != 0:
        pytest.skip("LEFT OUT: only root can send requests as another user")
    if not shutil.which("curl"):
        pytest.skip("LEFT OUT: no curl here")


def curl(url: str, *headers: str, user: int = NOBODY, method: str = "GET") -> tuple[int, str]:
    """Return the status and the body of the answer to a request of the operating system's user `user`.

    An event stream stays open after its last event, so only what comes within some seconds is read.
    """
    options = [part for header in headers for part in ("-H", header)]
    command = ["curl", "-s", "-m", "8", "-X", method, "-w", "\n%{http_code}", *options, url]
    ended = subprocess.run(
        command, user=user, group=user, extra_groups=[], cwd="/", env={}, capture_output=True, text=True, check=False
    )
    body, _, status = ended.stdout.rpartition("\n")
    return int(status), body


def at(found: list[Listener], name: str, path: str = "/") -> list[str]:
    """Return the addresses of the listeners called `name`."""
    return [f"http://127.0.0.1:{each.port}{path}" for each in found if each.name == name]


def launches(stack: LocalStack) -> float:
    """Return how many launches have started, with any result."""
    lines = stack.page("metrics").body.decode().splitlines()
    names = ("pangeo_binder_launches_total{", "pangeo_binder_launches_in_progress")
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(names))


REFUSED = [
    ("binder", "/", 403),
    ("public", "/", 403),
    ("public", "/v2/git/{repo}/HEAD", 403),
    ("public", "/metrics", 403),
    ("public", "/hub/api/users", 403),
    ("public", "/services/dask-gateway/api/v1/clusters/", 401),
    ("hub", "/hub/api/users", 403),
    ("hub", "/hub/api/info", 403),
    ("hub", "/hub/api/proxy", 403),
    ("proxy_api", "/api/http/routers", 401),
    ("gateway", "/services/dask-gateway/api/v1/clusters/", 401),
    ("gateway", "/services/dask-gateway/clusters/none/status", 404),
    ("gateway_api", "/api/v1/clusters/", 401),
    ("gateway_api", "/api/v1/routes", 401),
    ("gateway_api", "/api/v1/launches/", 401),
    ("storage", "/scratch", 403),
    ("storage_admin", "/launches", 401),
    ("session", "{base}api/contents", 403),
    ("session", "{base}api/kernels", 403),
]


@pytest.mark.parametrize(("name", "path", "status"), REFUSED)
def test_another_user_is_refused(
    found: list[Listener], attacker: Session, others: None, name: str, path: str, status: int
) -> None:
    repo, base = quote(attacker.stack.example("minimal"), safe=""), urlsplit(attacker.url).path
    for url in at(found, name, path.format(repo=repo, base=base)):
        for header in ("Accept: */*", "Authorization: token wrong", "Authorization: Bearer wrong"):
            got, body = curl(url, header)
            assert got == status, (header, body)


def test_another_user_launches_only_with_the_token(stack: LocalStack, found: list[Listener], others: None) -> None:
    before, nothing = launches(stack), quote((stack.state_dir / "nothing").as_uri(), safe="")
    for url in (*at(found, "public", f"/build/git/{nothing}/HEAD"), *at(found, "binder", f"/build/git/{nothing}/HEAD")):
        status, body = curl(url, EVENTS)
        event = json.loads(body.partition("data: ")[2].partition("\n")[0])
        assert (status, event["phase"], event["reason"]) == (200, "failed", "login_required")
    assert launches(stack) == before
    ((name, value),) = stack.login.items()
    assert curl(at(found, "public", "/metrics")[0], f"{name}: {value}")[0] == 200
    assert "There is no git repository" in curl(url, EVENTS, f"{name}: {value}", "Connection: close")[1]
    assert launches(stack) == before + 1


def test_dasks_own_servers_answer_only_to_the_same_user(found: list[Listener], others: None) -> None:
    """They speak TLS, or HTTP for the same user, or need dask-gateway's token."""
    answers = {}
    for name in ("scheduler", "nanny", "worker"):
        for path in ("/health", "/metrics", "/info/main/workers.html", "/status/ws"):
            for url in at(found, name, path):
                answers[url] = curl(url)[0], curl(url, user=os.getuid())[0]
    assert {theirs for theirs, _ in answers.values()} <= {0, 403, 404}, "0 is a closed connection"
    ours = {url: status for url, (theirs, status) in answers.items() if theirs == 403}
    assert len({urlsplit(url).port for url in ours}) == 2, "a scheduler's and a worker's"
    assert all(status == 200 for url, status in ours.items() if url.endswith(("/health", "/metrics")))
    for url in at(found, "scheduler", "/api/comm"):
        assert curl(url, method="POST")[0] in (0, 401, 403)


def test_another_user_who_goes_at_once_is_refused(found: list[Listener], others: None) -> None:
    """A closed connection has no user any more; the answer to it is sent to nobody, and the server continues."""
    for url in at(found, "scheduler"):
        connection = HTTPConnection("127.0.0.1", urlsplit(url).port or 0, timeout=10)
        connection.request("GET", "/health")
        connection.close()
    time.sleep(0.1)
    assert 200 in {curl(url, user=os.getuid())[0] for url in at(found, "scheduler", "/health")}
