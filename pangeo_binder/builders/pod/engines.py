"""Engines by which repo2docker makes images in a build pod: what they share, and buildah. `buildkit` has the other.

An engine leaves its image as an OCI image layout, and never pushes. Runs in build pods, as an unprivileged user.
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
"""What buildah and BuildKit say of the step that failed; BuildKit has a process only for RUN."""
_QUOTED: Final = re.compile(r'\\(["\\])')


class LayoutEngine(ContainerEngine):
    """What the engines share: they build once, into an image layout at `layout`."""

    def __init__(self, *, parent: Any, layout: Path, session: Path) -> None:
        super().__init__(parent=parent)
        self._layout = layout
        self._session = session

    def inspect_image(self, image: str) -> None:
        """Answer that there is no image yet."""

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
        """Yield the build's lines. `kwargs` are what Docker alone knows. Raises BuildError saying which step failed."""
        words = {"build-arg": buildargs or {}, "label": labels or {}}
        with tempfile.TemporaryDirectory() as folder:
            if fileobj:  # a Dockerfile of repo2docker's own, whose appendix takes the session distribution from here
                with tarfile.open(fileobj=fileobj) as archive:
                    # links lead where the repository has them lead: in the image, and in a pod that holds nothing else
                    archive.extraction_filter = lambda member, path: member
                    archive.extractall(folder)  # noqa: S202 - made by repo2docker itself
                shutil.copytree(self._session, Path(folder) / SESSION_DIR, dirs_exist_ok=True)
                path, dockerfile = folder, "Dockerfile"
            for command in self.commands(Path(path), Path(path) / dockerfile, words):
                yield from _lines(command)

    def commands(self, context: Path, dockerfile: Path, words: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
        """Return the commands that make the image of `dockerfile` and leave it as a layout."""
        raise NotImplementedError


class BuildahEngine(LayoutEngine):
    """buildah, in a user namespace and with chroot isolation: without a daemon, a device or a mount of the node's."""

    def __init__(self, *, parent: Any, layout: Path, session: Path) -> None:
        super().__init__(parent=parent, layout=layout, session=session)
        # overlay mounts in a user namespace need Linux 5.13; without them each step copies all that is below it
        for driver in ("overlay", "vfs"):
            os.environ["STORAGE_DRIVER"] = driver
            if subprocess.run(["buildah", "info"], capture_output=True, check=False).returncode == 0:
                return

    def commands(self, context: Path, dockerfile: Path, words: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
        # one layer above the base: steps of repo2docker that change owners would else store everything twice
        build = ["buildah", "build", "--isolation=chroot", "--format=oci", "--layers=false", f"--tag={_NAME}"]
        options = [f"--{word}={name}={value}" for word, pairs in words.items() for name, value in pairs.items()]
        return [
            [*build, *options, f"--file={dockerfile}", "--", str(context)],
            ["buildah", "push", "--quiet", "--format=oci", "--", _NAME, f"oci:{self._layout}:latest"],
        ]


def _lines(command: list[str]) -> Iterator[str]:
    """Yield what `command` writes, in clean lines. Raises BuildError."""
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
    """Return the step of the Dockerfile that failed, or nothing."""
    for line in reversed(tail):
        if found := _STEP.search(line):
            if found[1]:
                return found[1].split('": ')[0].strip('"')
            return "RUN " + _QUOTED.sub(r"\1", found[2].split('" did not ')[0])
    return ""
