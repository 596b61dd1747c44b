"""Find the installed Python that a repository requests; never download one. Runs in the binder."""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...command import Captured, Command, capture
from ...errors import BuildFailed
from ..base import BuildSettings

_OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
_UV_SECONDS = 60
_PATCH = re.compile(r"(\d+\.\d+)\.\d+")


@dataclass(frozen=True, slots=True)
class Python:
    """An installed Python."""

    path: str
    note: str = ""
    """A sentence for the build's log if it is not exactly what the repository requests."""


async def find_python(wanted: str, settings: BuildSettings, env: Mapping[str, str]) -> Python:
    """Return an installed Python that matches `wanted` (`3.11`, `3.11.4`, `>=3.12`; empty for the binder's default).

    If only the patch release of `wanted` is missing, return the Python of its minor version, as repo2docker would give
    it fixes. Raises BuildFailed with the installed versions.
    """
    wanted = wanted or settings.python
    if wanted in (_OWN, platform.python_version()):
        return Python(sys.executable)
    found = await _uv(settings, env, "python", "find", "--no-project", "--system", wanted)
    if found.code == 0:
        return Python(found.out.strip())
    if minor := _PATCH.fullmatch(wanted):
        with suppress(BuildFailed):
            other = await find_python(minor[1], settings, env)
            return Python(other.path, f"Python {wanted} is not installed on this binder; using its Python {minor[1]}.")
    installed = await _installed(settings, env)
    raise BuildFailed(
        f"This repository requests Python {wanted}, which is not installed on this binder.",
        f"Installed versions: {', '.join(installed)}.",
    )


async def _installed(settings: BuildSettings, env: Mapping[str, str]) -> list[str]:
    listed = await _uv(settings, env, "python", "list", "--only-installed", "--output-format", "json")
    entries = json.loads(listed.out) if listed.code == 0 else []
    parts = {(int(each["version_parts"]["major"]), int(each["version_parts"]["minor"])) for each in entries}
    return [f"{major}.{minor}" for major, minor in sorted(parts | {(sys.version_info.major, sys.version_info.minor)})]


async def _uv(settings: BuildSettings, env: Mapping[str, str], *args: str) -> Captured:
    return await capture(Command((str(settings.uv), *args), env, Path("/"), _UV_SECONDS))
