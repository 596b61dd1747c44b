"""BuildKit in a build pod: a rootless daemon of the pod's own, which starts with the build and ends with it.

It gets no more than buildah does: a user namespace of its own, in which it runs the Dockerfile's steps by runc. Not for
a BuildKit that pods share: there no limit of the build's would hold. Runs in build pods, as an unprivileged user.
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
_BESIDE: Final = re.compile(r"^#\d+ (?:\d+\.\d+(?: |$))?")
"""What BuildKit's plain progress puts before each line of a step: its number and its seconds."""
_AGAIN: Final = "------"
"""Where BuildKit begins to tell what it told before: the failed step's lines, and the Dockerfile around it."""
_NAMESPACES: Final = ("unshare", "--user", "--map-root-user", "--map-auto", "--mount")
"""util-linux's way into a user namespace with all users of /etc/subuid, by `newuidmap`."""
_DAEMON: Final = (
    "buildkitd",
    # the pod's processes and network are what a step sees: the pod is its border, as with buildah's chroot isolation
    "--oci-worker-no-process-sandbox",
    "--oci-worker-net=host",
    "--oci-worker-gc=false",
    "--containerd-worker=false",
)
"""https://github.com/moby/buildkit/blob/v0.34.2/docs/rootless.md; a new /proc cannot be mounted in a pod."""


class BuildKitEngine(LayoutEngine):
    """BuildKit's own rootless mode."""

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
        """Yield the build's lines, as LayoutEngine does. Raises BuildError, and BuildFailed where it cannot start."""
        if lacking := [name for name in _PROGRAMS if not shutil.which(name)]:
            sys.stdout.write(f"The image of build pods has no {' and no '.join(lacking)}: build it with BuildKit.\n")
            raise BuildFailed("This binder's builds have no BuildKit.", "Tell the binder's operator.")
        with _daemon():
            words = {"buildargs": buildargs, "labels": labels, **kwargs}
            yield from told(super().build(dockerfile=dockerfile, fileobj=fileobj, path=path, **words))

    def commands(self, context: Path, dockerfile: Path, words: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
        build = [*_client(), "build", "--progress=plain", "--frontend=dockerfile.v0", f"--local=context={context}"]
        options = [f"--opt={word}:{name}={value}" for word, pairs in words.items() for name, value in pairs.items()]
        file = [f"--local=dockerfile={dockerfile.parent}", f"--opt=filename={dockerfile.name}"]
        return [[*build, *options, *file, f"--output=type=oci,tar=false,dest={self._layout}"]]


def told(lines: Iterator[str]) -> Iterator[str]:
    """Yield lines of BuildKit's plain progress as the steps wrote them, and each once. Pure."""
    again = False
    for line in lines:
        again = (again or line.rstrip() == _AGAIN) and not line.startswith("error: ")
        if line.strip() and not again:
            yield _BESIDE.sub("", line)


def _client() -> list[str]:
    return ["buildctl", f"--addr={_address()}"]


def _address() -> str:
    return f"unix://{os.environ['XDG_RUNTIME_DIR']}/buildkitd.sock"


@contextmanager
def _daemon() -> Iterator[None]:
    """Run BuildKit's daemon. Raises BuildFailed where it does not answer, with its log in the build's."""
    home, log = Path(os.environ["HOME"]), Path(os.environ["TMPDIR"]) / "buildkitd.log"
    # a user's name that is not root's is what makes it keep to the user's directories
    environment = {**os.environ, "USER": "builder"}
    places = [f"--addr={_address()}", f"--root={home}/buildkit", f"--config={home}/.config/buildkit/buildkitd.toml"]
    with log.open("wb") as written:
        command, errors = [*_NAMESPACES, *_DAEMON, *places], subprocess.STDOUT
        daemon = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=written, stderr=errors)
    try:
        if not _answers(daemon):
            sys.stdout.write("".join(_said(log)))
            hint = "Tell the binder's operator: the log says why, and its documentation what nodes have to allow."
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
    """Return whether BuildKit takes work, once it does or has ended."""
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and daemon.poll() is None:
        if subprocess.run([*_client(), "debug", "workers"], capture_output=True, check=False).returncode == 0:
            return True
        time.sleep(0.2)
    return False


def _said(log: Path) -> Iterator[str]:
    """Yield what a log says, without the addresses of the program's own calls."""
    for line in log.read_text(errors="replace").splitlines():
        if " " in line:
            yield f"{line}\n"
