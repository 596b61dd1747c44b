"""Engines with which repo2docker makes images in a build pod: their base class, and buildah. See also `buildkit`.

An engine writes its image as an OCI image layout and never pushes it. Runs in build pods, as an unprivileged user.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from repo2docker.engine import BuildError, ContainerEngine

from ...command import LineSplitter
from .appendix import SESSION_DIR

_TAIL_LINES: Final = 20
_CHUNK_BYTES: Final = 1 << 16
_NAME: Final = "environment"
_STEP: Final = re.compile(r'building at STEP "(.{1,200})|failed to solve: process "(?:/bin/sh -c )?(.{1,200})')
"""How buildah and BuildKit report the failed step; BuildKit reports a process only for RUN."""
_QUOTED: Final = re.compile(r'\\(["\\])')


class LayoutEngine(ContainerEngine):
    """Base of the engines: builds one image into an image layout at `layout`."""

    def __init__(self, *, parent: Any, layout: Path, session: Path) -> None:
        super().__init__(parent=parent)
        self._layout = layout
        self._session = session

    def inspect_image(self, image: str) -> None:
        """Return None: no image exists yet."""

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
        """Yield the build's log; ignore `kwargs`, which are for Docker only. Raises BuildError with the failed step."""
        options = {"build-arg": buildargs or {}, "label": labels or {}}
        with tempfile.TemporaryDirectory() as folder:
            if fileobj:  # repo2docker's own Dockerfile: its appendix copies the session distribution from the context
                with tarfile.open(fileobj=fileobj) as archive:
                    # keep the repository's links unchanged: the image needs them, and the pod holds no other files
                    archive.extraction_filter = lambda member, path: member
                    archive.extractall(folder)  # noqa: S202 - made by repo2docker itself
                shutil.copytree(self._session, Path(folder) / SESSION_DIR, dirs_exist_ok=True)
                path, dockerfile = folder, "Dockerfile"
            for command in self.commands(Path(path), Path(path) / dockerfile, options):
                yield from _lines(command)

    def commands(self, context: Path, dockerfile: Path, options: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
        """Return the commands that build `dockerfile` and write the image layout."""
        raise NotImplementedError


class BuildahEngine(LayoutEngine):
    """Engine that uses buildah in a user namespace with chroot isolation; it needs no daemon, device or host mount."""

    def __init__(self, *, parent: Any, layout: Path, session: Path) -> None:
        super().__init__(parent=parent, layout=layout, session=session)
        # overlay mounts in a user namespace need Linux 5.13; without them each step copies all lower layers
        for driver in ("overlay", "vfs"):
            os.environ["STORAGE_DRIVER"] = driver
            if subprocess.run(["buildah", "info"], capture_output=True, check=False).returncode == 0:
                return

    def commands(self, context: Path, dockerfile: Path, options: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
        # one layer above the base: otherwise repo2docker's steps that change owners would store all files twice
        build = ["buildah", "build", "--isolation=chroot", "--format=oci", "--layers=false", f"--tag={_NAME}"]
        flags = [f"--{option}={name}={value}" for option, pairs in options.items() for name, value in pairs.items()]
        return [
            [*build, *flags, f"--file={dockerfile}", "--", str(context)],
            ["buildah", "push", "--quiet", "--format=oci", "--", _NAME, f"oci:{self._layout}:latest"],
        ]


def _lines(command: list[str]) -> Iterator[str]:
    """Run `command` and yield its output in clean lines. Raises BuildError."""
    splitter, tail = LineSplitter(), deque[str](maxlen=_TAIL_LINES)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        assert run.stdout is not None
        while chunk := run.stdout.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]  # a buffered reader
            for line in splitter.feed(chunk):
                tail.append(line)
                yield f"{line}\n"
        for line in splitter.flush():
            tail.append(line)
            yield f"{line}\n"
    if run.returncode:
        raise BuildError(_step(tail))


def _step(tail: deque[str]) -> str:
    """Return the Dockerfile step that failed; empty if unknown."""
    for line in reversed(tail):
        if found := _STEP.search(line):
            if found[1]:
                return found[1].split('": ')[0].strip('"')
            return "RUN " + _QUOTED.sub(r"\1", found[2].split('" did not ')[0])
    return ""
