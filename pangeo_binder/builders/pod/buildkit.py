"""BuildKit in a build pod: a rootless daemon that starts and ends with the build.

It has the same rights as buildah: its own user namespace, in which it runs the Dockerfile's steps with runc. Not for a
BuildKit that pods share, because the build's limits would not apply to it. Runs in build pods, as an unprivileged user.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from ...errors import BuildFailed
from .engines import LayoutEngine

_PROGRAMS: Final = ("buildkitd", "buildctl")
_START_SECONDS: Final = 60
_STOP_SECONDS: Final = 10
_LINE_PREFIX: Final = re.compile(r"^#\d+ (?:\d+\.\d+(?: |$))?")
"""The prefix of each line in BuildKit's plain progress: the step's number and its seconds."""
_REPEAT_MARK: Final = "------"
"""After this line BuildKit repeats the failed step's output and the Dockerfile lines around the step."""
_NAMESPACES: Final = ("unshare", "--user", "--map-root-user", "--map-auto", "--mount")
"""Enter a user namespace with all users of /etc/subuid; util-linux's `unshare` maps them with `newuidmap`."""
_DAEMON: Final = (
    "buildkitd",
    # a step sees the pod's processes and network; the pod isolates it, as with buildah's chroot isolation
    "--oci-worker-no-process-sandbox",
    "--oci-worker-net=host",
    "--oci-worker-gc=false",
    "--containerd-worker=false",
)
"""https://github.com/moby/buildkit/blob/v0.34.2/docs/rootless.md; a new /proc cannot be mounted in a pod."""


class BuildKitEngine(LayoutEngine):
    """Engine that uses BuildKit's rootless mode."""

    def build(
        self,
        *,
        buildargs: Mapping[str, str] | None = None,
        dockerfile: str = "",
        fileobj: IO[bytes] | None = None,
        path: str = "",
        labels: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Iterator[str]:
        """Yield the build's log, as LayoutEngine does. Raises BuildError, and BuildFailed if BuildKit cannot start."""
        if missing := [name for name in _PROGRAMS if not shutil.which(name)]:
            sys.stdout.write(f"The image of build pods has no {' and no '.join(missing)}: build it with BuildKit.\n")
            raise BuildFailed("BuildKit is missing from this binder's build pods.", "Tell the binder's operator.")
        with _daemon():
            given = {"buildargs": buildargs, "labels": labels, **kwargs}
            yield from clean_progress(super().build(dockerfile=dockerfile, fileobj=fileobj, path=path, **given))

    def commands(self, context: Path, dockerfile: Path, options: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
        build = [*_client(), "build", "--progress=plain", "--frontend=dockerfile.v0", f"--local=context={context}"]
        opts = [f"--opt={option}:{name}={value}" for option, pairs in options.items() for name, value in pairs.items()]
        file = [f"--local=dockerfile={dockerfile.parent}", f"--opt=filename={dockerfile.name}"]
        return [[*build, *opts, *file, f"--output=type=oci,tar=false,dest={self._layout}"]]


def clean_progress(lines: Iterator[str]) -> Iterator[str]:
    """Yield the lines of BuildKit's plain progress without their prefix and without repeated lines. Pure."""
    repeats = False
    for line in lines:
        repeats = (repeats or line.rstrip() == _REPEAT_MARK) and not line.startswith("error: ")
        if line.strip() and not repeats:
            yield _LINE_PREFIX.sub("", line)


def _client() -> list[str]:
    return ["buildctl", f"--addr={_address()}"]


def _address() -> str:
    return f"unix://{os.environ['XDG_RUNTIME_DIR']}/buildkitd.sock"


@contextmanager
def _daemon() -> Iterator[None]:
    """Run BuildKit's daemon. If it does not answer, copy its log to the build's log and raise BuildFailed."""
    home, log = Path(os.environ["HOME"]), Path(os.environ["TMPDIR"]) / "buildkitd.log"
    # with a user name other than root, BuildKit uses only the user's directories
    environment = {**os.environ, "USER": "builder"}
    paths = [f"--addr={_address()}", f"--root={home}/buildkit", f"--config={home}/.config/buildkit/buildkitd.toml"]
    with log.open("wb") as written:
        command, errors = [*_NAMESPACES, *_DAEMON, *paths], subprocess.STDOUT
        daemon = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=written, stderr=errors)
    try:
        if not _answers(daemon):
            sys.stdout.write("".join(_log_lines(log)))
            hint = "Tell the binder's operator. The log shows why; the documentation lists what nodes must allow."
            raise BuildFailed("BuildKit could not start on this binder's nodes.", hint)
        yield
    finally:
        daemon.terminate()
        try:
            daemon.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _answers(daemon: subprocess.Popen[bytes]) -> bool:
    """Wait until BuildKit accepts work or exits; return whether it accepts work."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and daemon.poll() is None:
        if subprocess.run([*_client(), "debug", "workers"], capture_output=True, check=False).returncode == 0:
            return True
        time.sleep(0.2)
    return False


def _log_lines(log: Path) -> Iterator[str]:
    """Yield the lines of a log without Go stack frames, which hold no space."""
    for line in log.read_text(errors="replace").splitlines():
        if " " in line:
            yield f"{line}\n"
