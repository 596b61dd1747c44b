"""Whatever a descendant does to detach itself, it ends with its launch: by its launcher, or by its control group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pangeo_binder.local.control_group import end_group, launch_group, make_stack_group, members, stack_group
from pangeo_binder.local.launcher import descendants
from pangeo_binder.local.lineage import hold_lifeline, lifeline_of, with_launcher
from pangeo_binder.local.processes import LAUNCH, STATE_DIR, end_all, end_marked, end_services, launched
from tests.stack.escaped import Escaped
from tests.stack.local import until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to a launcher"),
]

Started = subprocess.Popen[bytes]


class Launcher:
    """The launchers of one stack, whose lifeline this process holds."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = str(state_dir)
        (state_dir / "run").mkdir()
        self._lifeline = hold_lifeline(self.state_dir)
        self._started: list[Started] = []

    def start(self, shell: str, launch: str = "one") -> Started:
        """Start a shell command as a process of a launch."""
        environ = {**os.environ, STATE_DIR: self.state_dir, LAUNCH: launch}
        command = launched(["sh", "-c", shell], self.state_dir, launch)
        self._started.append(subprocess.Popen(command, env=environ, start_new_session=True, stdin=subprocess.DEVNULL))
        return self._started[-1]

    def inner(self, outer: Started) -> psutil.Process:
        """Return the inner launcher, once the command runs."""
        return until("it runs", lambda: [each for each in psutil.Process(outer.pid).children() if each.children()])[0]

    def let_go(self) -> None:
        """End the lifeline, as the end of `up` does."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
        self._lifeline = -1

    def close(self) -> None:
        self.let_go()
        end_all(self.state_dir)
        for process in self._started:
            process.kill()
            process.wait(20)


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    made = Launcher(tmp_path)
    yield made
    made.close()


@pytest.fixture
def escaped() -> Iterator[Escaped]:
    made = Escaped()
    yield made
    made.end()


@pytest.fixture
def running(launcher: Launcher, escaped: Escaped) -> Started:
    """A launcher whose command runs, with a descendant that escaped."""
    outer = launcher.start(f"{escaped.command}; sleep 1000")
    until("it has escaped", escaped.runs)
    launcher.inner(outer)
    return outer


def gone(escaped: Escaped, outer: Started, before: set[int]) -> Callable[[], bool]:
    """Return the check that neither the escaped process nor any of `before` runs."""

    def none_left() -> bool:
        outer.poll()  # it is ours to reap
        return not escaped.runs() and not {pid for pid in before if psutil.pid_exists(pid)}

    return none_left


@pytest.mark.parametrize(("shell", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)])
def test_an_escaped_process_ends_with_its_command_and_the_status_is_passed_on(
    launcher: Launcher, escaped: Escaped, shell: str, status: int
) -> None:
    assert launcher.start(f"{escaped.command}; {shell}").wait(20) == status
    assert not escaped.runs()


def test_a_launcher_imports_few_modules() -> None:
    """One starts with each server, scheduler and worker; these modules take longer to import than all it needs."""
    modules = "import sys; print(*sys.modules)"
    python, *options, run, folder = with_launcher([], "", None)[:-2]
    run = f"{run.replace('; main(*sys.argv[2:])', '')}; {modules}"
    found = subprocess.run([python, *options, run, folder], capture_output=True, text=True, timeout=20, check=True)
    assert "launcher" in found.stdout.split()
    assert not {"enum", "re", "threading", "pathlib", "contextlib", "site"} & set(found.stdout.split())


def test_a_command_that_does_not_exist_ends_with_a_status(launcher: Launcher) -> None:
    command = launched([str(launcher.state_dir) + "/none"], launcher.state_dir, "one")
    done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (127, f"{launcher.state_dir}/none: No such file or directory\n".encode())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_gets_the_signals_of_its_launcher_and_may_end_in_order(
    launcher: Launcher, escaped: Escaped, number: signal.Signals
) -> None:
    name = number.name.removeprefix("SIG")
    outer = launcher.start(f"trap 'exit 5' {name}; {escaped.command}; while true; do sleep 0.1; done")
    until("it has escaped", escaped.runs)
    outer.send_signal(number)
    assert outer.wait(20) == 5
    assert not escaped.runs()


def test_the_command_starts_with_the_default_signals(launcher: Launcher) -> None:
    """Python ignores SIGPIPE, and `yes | head` in a session's terminal would not end."""
    command = launched(["grep", "Sig[BI]", "/proc/self/status"], launcher.state_dir, "one")
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    blocked, ignored = (int(line.split()[1], 16) for line in done.stdout.splitlines())
    assert (blocked, ignored & (1 << (signal.SIGPIPE - 1))) == (0, 0)


@pytest.mark.parametrize("which", ["outer", "inner", "command", "group of outer", "group of inner"])
def test_nothing_is_left_of_a_launch_of_which_one_process_is_killed(
    launcher: Launcher, escaped: Escaped, running: Started, which: str
) -> None:
    inner = launcher.inner(running)
    before = {running.pid, *descendants(running.pid)}
    kill: dict[str, Callable[[], None]] = {
        "outer": lambda: os.kill(running.pid, signal.SIGKILL),
        "inner": inner.kill,
        "command": next(each for each in inner.children() if each.name() == "sh").kill,
        "group of outer": lambda: os.killpg(running.pid, signal.SIGKILL),
        "group of inner": lambda: os.killpg(os.getpgid(inner.pid), signal.SIGKILL),
    }
    kill[which]()
    until("nothing is left", gone(escaped, running, before), 20)


def test_everything_ends_with_the_lifeline(launcher: Launcher, escaped: Escaped, running: Started) -> None:
    before = {running.pid, *descendants(running.pid)}
    launcher.let_go()
    until("nothing is left", gone(escaped, running, before), 20)


def test_nothing_starts_without_a_lifeline(launcher: Launcher, escaped: Escaped) -> None:
    lifeline_of(launcher.state_dir).unlink()
    assert launcher.start(f"{escaped.command}; sleep 1000").wait(20) == 137
    assert not escaped.runs()


def test_ending_a_launch_ends_what_escaped_even_if_its_launchers_do_not_react(
    launcher: Launcher, escaped: Escaped, running: Started
) -> None:
    also = Escaped()
    other = launcher.start(f"{also.command}; sleep 1000", "other")
    until("the other one has escaped", also.runs)
    before = {running.pid, *descendants(running.pid)}
    for process in (launcher.inner(running), psutil.Process(running.pid)):
        process.suspend()
    assert end_marked(launcher.state_dir, "one") >= len(before)
    until("nothing is left", gone(escaped, running, before), 5)
    assert also.runs() and other.poll() is None


def test_services_end_without_launches(launcher: Launcher, escaped: Escaped, running: Started) -> None:
    """A launch is a descendant of the hub that started it, and outlives it."""
    assert end_services(launcher.state_dir, frozenset()) == 0
    assert escaped.runs() and running.poll() is None


@pytest.fixture
def grouped(launcher: Launcher) -> Iterator[Launcher]:
    if not make_stack_group(launcher.state_dir):
        pytest.skip("this system lets no control group be made")
    yield launcher
    end_group(stack_group(launcher.state_dir))


def test_a_control_group_finds_what_lost_all_its_launchers(grouped: Launcher, escaped: Escaped) -> None:
    outer = grouped.start(f"{escaped.command}; exec sleep 1000")
    until("it has escaped", escaped.runs)
    inner, group = grouped.inner(outer), launch_group(grouped.state_dir, "one")
    assert group is not None
    for process in (psutil.Process(outer.pid), inner):
        process.suspend()  # so that neither notices the other's end
    for process in (psutil.Process(outer.pid), inner):
        process.kill()
    outer.wait(20)
    until("it is an orphan of the system", lambda: len(members(group)) == 1)
    assert end_marked(grouped.state_dir, "one") == 1
    assert not escaped.runs() and not group.exists()


def test_the_next_stack_finds_the_control_groups_of_a_killed_one(grouped: Launcher, escaped: Escaped) -> None:
    grouped.start(f"{escaped.command}; sleep 1000")
    until("it has escaped", escaped.runs)
    group = stack_group(grouped.state_dir)
    assert end_all(grouped.state_dir) >= 4
    assert not escaped.runs() and group is not None and not group.exists()


def test_a_stack_without_control_groups_has_no_members(launcher: Launcher) -> None:
    assert stack_group(launcher.state_dir) is None and launch_group(launcher.state_dir, "one") is None
    assert members(None) == set()
    end_group(None)
