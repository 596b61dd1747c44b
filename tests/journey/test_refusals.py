"""Bad input, from the link to the policy: each gets one clear message and leaves nothing behind."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import websocket

from pangeo_binder.deploy.local.values import free_port
from tests.journey.conftest import ALLOWED
from tests.stack.local import COMMAND, LocalStack, Session, request
from tests.stack.remains import remains, wait_until_restored
from tests.stack.repository import repository

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

INTERNALS = re.compile(r"Traceback|Error\(|Exception|pangeo_binder[/.]|site-packages/pangeo|\.py\", line")


@pytest.fixture(scope="module", autouse=True)
def first_example_built(stack: LocalStack) -> None:
    """Wait for the build that the binder starts by itself, so that incomplete environments belong to the tests."""
    stack.launch(stack.example("minimal")).stop()


def refused(stack: LocalStack, repo: str, ref: str = "HEAD") -> dict[str, Any]:
    """Return the last event of a launch that must fail; check that it is clear and that nothing is left."""
    before = remains(stack)
    events = list(stack.events(repo, ref))
    for event in events:
        assert not INTERNALS.search(f"{event['message']} {event.get('hint', '')}"), event
    last = events[-1]
    assert last["phase"] == "failed", last
    assert re.fullmatch(r"[^\n]{10,300}\.\n", last["message"]), last["message"]
    assert last["hint"], last
    wait_until_restored(stack, before)
    return last


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *args], capture_output=True, text=True, timeout=240, check=False)


class TestLinks:
    """Links with a mistake."""

    def test_no_such_folder(self, stack: LocalStack, tmp_path: Path) -> None:
        last = refused(stack, (tmp_path / "nothing").as_uri())
        assert last["reason"] == "repo_not_found" and "no git repository at" in last["message"]

    def test_no_server_at_the_address(self, stack: LocalStack) -> None:
        last = refused(stack, f"http://127.0.0.1:{free_port()}/org/repo")
        assert last["reason"] == "host_unavailable" and "cannot be reached" in last["message"]

    def test_no_such_ref_suggests_close_ones(self, stack: LocalStack, tmp_path: Path) -> None:
        repo = repository(tmp_path / "repo", {"README.md": ""})
        for name in ("release-2024", "release-2025", "a", "b", "c", "d"):
            subprocess.run(["git", "branch", name], cwd=tmp_path / "repo", check=True)
        last = refused(stack, repo, "relese-2025")
        assert last["reason"] == "ref_not_found" and "no branch or tag `relese-2025`" in last["message"]
        assert last["hint"].startswith("Similar names: release-2025")

    @pytest.mark.parametrize("where", ["ref", "ref after a slash", "url", "url and ref"])
    def test_a_git_option_is_refused(self, stack: LocalStack, tmp_path: Path, where: str) -> None:
        made, repo = tmp_path / "made", repository(tmp_path / "repo", {"README.md": ""})
        option = f"--upload-pack=touch {made}"
        links = {
            "ref": (repo, option),
            "ref after a slash": (repo, f"/{option}"),
            "url": (option, "HEAD"),
            "url and ref": (option, repo),
        }
        assert refused(stack, *links[where])["reason"] == "bad_link"
        assert not made.exists()

    @pytest.mark.parametrize("form", ["ext::sh -c touch% {}", "ext::touch {}", "file://host/{}", "fd::17/{}"])
    def test_a_transport_that_runs_commands_is_refused(self, stack: LocalStack, tmp_path: Path, form: str) -> None:
        made = tmp_path / "made"
        assert refused(stack, form.format(made))["reason"] == "bad_link"
        assert not made.exists()

    def test_a_password_in_the_address_is_never_repeated(self, stack: LocalStack) -> None:
        before = len(stack.log)
        last = refused(stack, "https://someone:hunter2secret@example.invalid/org/repo")
        assert last["reason"] == "bad_link" and "user name or password" in last["message"]
        assert "hunter2secret" not in str(last)
        page = stack.page(f"v2/git/{quote('https://someone:hunter2secret@example.invalid/r', safe='')}/HEAD")
        assert page.status == 404 and b"hunter2secret" not in page.body
        assert "hunter2secret" not in stack.log[before:]

    def test_an_unknown_provider(self, stack: LocalStack) -> None:
        url = f"{stack.url}build/nowhere/org/repo/HEAD"
        sent = urllib.request.Request(url, headers={"Accept": "text/event-stream", **stack.login})
        with urllib.request.urlopen(sent, timeout=30) as response:
            assert "does not know the link's kind of repository" in response.readline().decode()


class TestRepositories:
    """Valid links to repositories whose environment cannot be built."""

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({"requirements.txt": "no-such-package-anywhere-0815\n"}, "no package `no-such-package-anywhere-0815`"),
            ({"requirements.txt": "toolz==999.1\n"}, "`toolz==999.1`"),
            ({"requirements.txt": "not a requirement\n"}, "has a line that is not a valid requirement"),
            ({"Dockerfile": "FROM scratch\n"}, "Dockerfile"),
            ({"environment.yml": "dependencies: [xarray]\n"}, "environment.yml"),
            ({"postBuild": "echo going wrong\nexit 7\n"}, "postBuild failed with exit code 7"),
        ],
    )
    def test_the_message_names_the_mistake(
        self, stack: LocalStack, tmp_path: Path, files: dict[str, str], message: str
    ) -> None:
        last = refused(stack, repository(tmp_path / "repo", files))
        assert last["reason"] == "build_failed" and message in last["message"]

    def test_the_last_lines_of_a_failed_build_are_shown(self, stack: LocalStack, tmp_path: Path) -> None:
        *log, last = stack.events(repository(tmp_path / "repo", {"postBuild": "echo this is why\nfalse\n"}))
        assert last["phase"] == "failed" and last["hint"] == "The log says why."
        assert "this is why" in "".join(event["message"] for event in log[-8:])

    def test_a_fixed_repository_launches(self, stack: LocalStack, tmp_path: Path) -> None:
        """The failure is not cached: the same address starts once the mistake is fixed."""
        folder = tmp_path / "repo"
        repo = repository(folder, {"postBuild": "exit 1\n"})
        refused(stack, repo)
        (folder / "postBuild").write_text("exit 0\n")
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@e.invalid", "commit", "-qam", "Fix"],
            cwd=folder,
            check=True,
        )
        stack.launch(repo).stop()


class TestLaunchCommand:
    """`pangeo-binder launch`, as a user runs it."""

    def test_a_failure_is_a_message_and_a_hint(self, stack: LocalStack, tmp_path: Path) -> None:
        before = remains(stack)
        repo = repository(tmp_path / "repo", {"Dockerfile": "FROM scratch\n"})
        ended = run("launch", repo, "--state-dir", str(stack.state_dir))
        assert ended.returncode == 1 and ended.stdout == ""
        assert "a Dockerfile" in ended.stderr and not INTERNALS.search(ended.stderr)
        assert ended.stderr.count("a Dockerfile") == 1
        wait_until_restored(stack, before)

    def test_no_binder_at_the_address(self, stack: LocalStack) -> None:
        ended = run("launch", stack.example("minimal"), "--hub", f"http://127.0.0.1:{free_port()}/")
        assert ended.returncode == 1
        assert ended.stderr.startswith("The binder cannot be reached.\nIs it running?")

    def test_a_good_one_prints_an_address_that_opens(self, stack: LocalStack) -> None:
        before = remains(stack)
        ended = run("launch", stack.example("minimal"), "--hub", stack.address, "--urlpath", "lab/tree/index.ipynb")
        assert ended.returncode == 0, ended.stderr
        address = ended.stdout.strip()
        assert request(address).status == 200
        base, _, token = address.partition("lab/tree/index.ipynb?token=")
        assert request(f"{base}api/status").status == 403, "the server refuses requests without the token"
        assert request(f"{base}api/shutdown", "POST", Authorization=f"token {token}").status == 200
        wait_until_restored(stack, before)


class TestLeaving:
    """Clients that disconnect while the server starts; the launch waits 30 s for them."""

    @pytest.mark.parametrize("word", ["Starting the server", "Ticket accepted", "is starting"])
    def test_the_server_is_stopped(self, stack: LocalStack, word: str) -> None:
        before = remains(stack)
        events = stack.events(stack.example("minimal"))
        for event in events:
            assert event["phase"] not in ("failed", "ready"), event
            if word in event["message"] and event["phase"] == "launching":
                break
        events.close()  # type: ignore[attr-defined]  # closing the generator closes the connection
        wait_until_restored(stack, before, 80)
        stack.launch(stack.example("minimal")).stop()


class TestUp:
    """`pangeo-binder up`, when it cannot start."""

    def test_every_mistake_of_a_policy_is_reported_and_nothing_starts(self, tmp_path: Path) -> None:
        policy, state = tmp_path / "policy.yaml", tmp_path / "state"
        policy.write_text(
            "tiers:\n"
            "  small:\n"
            "    server: {cpu: x, memory: 1G, idle: 10m, max_age: 1h}\n"
            "    dask: none\n"
            "    storage: none\n"
            "    colour: blue\n"
            "rules:\n"
            '  - {repo: "*", tier: large}\n'
        )
        started = run("up", "--no-open", "--policy", str(policy), "--state-dir", str(state))
        checked = run("check", str(policy))
        for ended, output in ((started, started.stderr), (checked, checked.stdout)):
            assert ended.returncode == 1 and not INTERNALS.search(output)
            lines = [line for line in output.splitlines() if line.startswith(f"{policy}:")]
            assert [line.split(":")[1] for line in lines] == ["3", "6", "8"], output
        assert not state.exists()

    def test_a_port_in_use(self, stack: LocalStack, tmp_path: Path) -> None:
        other = LocalStack(tmp_path / "state")
        ended = run("up", "--no-open", "--port", str(stack.port), "--state-dir", str(other.state_dir))
        assert ended.returncode == 1
        assert ended.stderr.startswith(f"Port {stack.port} is in use on this machine.\n")
        assert len(ended.stderr.splitlines()) == 2 and not INTERNALS.search(ended.stdout + ended.stderr)
        assert not other.processes() and not (other.state_dir / "values.json").exists()

    def test_a_second_stack_in_the_same_directory_is_refused(self, stack: LocalStack) -> None:
        session = stack.launch(stack.example("minimal"))
        before = {process.pid for process in stack.processes()}
        ended = run("up", "--no-open", "--state-dir", str(stack.state_dir))
        assert ended.returncode == 1
        assert ended.stderr.startswith(f"Another pangeo-binder is running in {stack.state_dir}.\n")
        assert len(ended.stderr.splitlines()) == 2
        assert {process.pid for process in stack.processes()} >= before
        assert request(f"{stack.url}health").status == 200
        assert session.request("api/status").status == 200
        session.stop()


class TestOtherSites:
    """Pages of other sites, in the browser of the person who runs the stack."""

    @pytest.mark.parametrize("origin", ALLOWED)
    def test_an_allowed_site_launches(self, stack: LocalStack, origin: str) -> None:
        header, events = launched(stack, origin, **stack.login)
        assert header == origin and "Looking up" in events

    def test_an_allowed_site_does_not_launch_without_the_token(self, stack: LocalStack) -> None:
        """Another user of the machine can send any Origin."""
        header, events = launched(stack, ALLOWED[0])
        assert header == ALLOWED[0] and "needs a token" in events and "Looking up" not in events

    @pytest.mark.parametrize("origin", ["https://evil.example", f"{ALLOWED[0]}.evil.example", "null"])
    def test_another_site_does_not_launch(self, stack: LocalStack, origin: str) -> None:
        header, events = launched(stack, origin, **stack.login)
        assert header is None and "pages of other sites" in events and "Looking up" not in events

    @pytest.mark.parametrize("origin", ALLOWED)
    def test_an_allowed_site_uses_the_session_with_its_token(self, minimal: Session, origin: str) -> None:
        for method, path in (("OPTIONS", "api/kernels"), ("POST", "api/kernels")):
            answer = asked(minimal, method, path, origin)
            assert answer.headers["Access-Control-Allow-Origin"] == origin and answer.status < 300
        connect(minimal, json.loads(answer.read())["id"], origin).close()

    @pytest.mark.parametrize("origin", ["https://evil.example", f"{ALLOWED[0]}.evil.example"])
    def test_another_site_does_not_reach_the_session(self, minimal: Session, origin: str) -> None:
        answer = asked(minimal, "GET", "api/status", origin)
        assert "Access-Control-Allow-Origin" not in answer.headers
        kernel = minimal.request("api/kernels", "POST", {"name": "python3"}).json["id"]
        with pytest.raises(websocket.WebSocketBadStatusException):
            connect(minimal, kernel, origin)


def launched(stack: LocalStack, origin: str, **login: str) -> tuple[str | None, str]:
    """Return the CORS header and the first event of a launch from a page of `origin`."""
    url = f"{stack.url}build/git/{quote(stack.example('minimal'), safe='')}/HEAD?build_only=true"
    sent = urllib.request.Request(url, headers={"Accept": "text/event-stream", "Origin": origin, **login})
    with urllib.request.urlopen(sent, timeout=60) as response:
        return response.headers["Access-Control-Allow-Origin"], response.readline().decode()


def asked(session: Session, method: str, path: str, origin: str) -> HTTPResponse:
    """Send what a browser sends for a page of `origin` that has the session's token."""
    sent = urllib.request.Request(f"{session.url}{path}", method=method, headers={"Origin": origin})
    if method != "OPTIONS":  # a preflight request has no credentials
        sent.add_header("Authorization", f"token {session.token}")
    answer: HTTPResponse = urllib.request.urlopen(sent, timeout=60)
    return answer


def connect(session: Session, kernel: str, origin: str) -> websocket.WebSocket:
    """Open a kernel's socket for a page of `origin` by the session's cookie; the token would open it to any page."""
    cookie = asked(session, "GET", "api/status", session.stack.url.rstrip("/")).headers["Set-Cookie"].partition(";")[0]
    url = f"{session.url.replace('http://', 'ws://')}api/kernels/{kernel}/channels"
    return websocket.create_connection(url, origin=origin, cookie=cookie, timeout=30)
