"""Translate uv's error output into one sentence that names the requirement at fault.

Pure. uv's messages are not a stable interface, so an unknown message gets a general sentence; the log has the details.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from ...errors import BuildFailed
from ..base import disk_full
from ..session_needs import NEEDS

_PIN_HINT: Final = "Loosen or remove one of them, then open the link again."
_LOG_HINT: Final = "The log says why."
_LIST: Final = r"((?:all of: )?[^\s,]+(?:(?:,| and|, and) [^\s,]+)*)"
_REQUIRED = re.compile(rf"(?<!conclude that )you require {_LIST}")
_NOT_THERE = re.compile(r"(?:Because|because|and) ([\w.-]+(?:\[[\w,]+\])?) was not found in the package registry")
_NO_VERSION = re.compile(r"there (?:is|are) no versions? of ([^\s,]+)")
_ONLY = re.compile(r"only (?:the following versions of )?\S+.*? (?:is|are) available.*? you require ([^\s,]+)")
_PYTHON = re.compile(r"the current Python version \(([\d.]+)\) does not satisfy (Python[^\s,]+)")
_BAD_LINE = re.compile(r"Couldn't parse requirement in `([^`]+)`|Unsupported requirement in `?([^`\s]+)")
_NOT_BUILT = re.compile(r"Failed to (?:build|download and build|prepare) `([^`]+)`")
_NO_FILE = re.compile(r"(?:[Ff]ailed to read from file|File not found:?|Distribution not found at:) `?([^`\s]+)`?")

_FULL = ("No space left on device", "os error 28", "Disk quota exceeded")
_OFFLINE = ("dns error", "tcp connect error", "client error (Connect)", "operation timed out", "network timeout")
_INDEX_LINE = re.compile(r"^\s*(?:--index-url|--extra-index-url|-i)[ =]\s*(\S+)", re.MULTILINE)
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


def own_indexes(requirements: str) -> list[str]:
    """Return the hosts, with their ports, of the package indexes in the text of a requirements file."""
    return [urlsplit(url).netloc.rpartition("@")[2] for url in _INDEX_LINE.findall(requirements)]


def explain(lines: Sequence[str], indexes: Mapping[str, str] = _NONE) -> BuildFailed:
    """Return the error that explains why uv failed, from the last lines of its output.

    `indexes` maps the host of each index that the repository names to the file that names it.
    """
    output = " ".join(" ".join(re.sub(r"[^\x20-\x7e]", " ", line) for line in lines).split())
    if any(words in output for words in _FULL):
        return disk_full()
    if "unsatisfiable" in output or "No solution found" in output:
        return _unsatisfiable(output)
    if any(words in output for words in _OFFLINE):
        for host, file in indexes.items():
            if f"//{host}/" in output or f"@{host}/" in output:
                return BuildFailed(
                    f"The package index {host}, which {file} names, cannot be reached from this binder.",
                    "Name another index, or remove it to use the binder's own index.",
                )
        return BuildFailed("The package index cannot be reached from this binder.", "Try again in a few minutes.")
    if found := _BAD_LINE.search(output):
        name = (found[1] or found[2]).rsplit("/", 1)[-1]
        return BuildFailed(f"{name} has a line that is not a valid requirement.", "The log shows which one.")
    if found := _NO_FILE.search(output):
        name = found[1].rsplit("/", 1)[-1]
        return BuildFailed(f"The requirements name the file {name}, which is not in the repository.", "Add the file.")
    if found := _NOT_BUILT.search(output):
        name = found[1].partition(" @ file:")[0]
        return BuildFailed(f"The package `{name}` could not be built.", _LOG_HINT)
    if "The build backend returned an error" in output:
        return BuildFailed("The repository's own package could not be built.", _LOG_HINT)
    if "Git operation failed" in output:
        return BuildFailed("A requirement's git repository could not be read.", "Check that it is public.")
    return BuildFailed("The repository's Python packages could not be installed.", _LOG_HINT)


def _unsatisfiable(output: str) -> BuildFailed:
    if found := _NOT_THERE.search(output):
        return BuildFailed(f"The package index has no package `{found[1]}`.", "Check its spelling.")
    if found := _PYTHON.search(output):
        return BuildFailed(
            f"A requirement of this repository needs {found[2]}, but its environment has Python {found[1]}.",
            "Name the required Python in runtime.txt, for example `python-3.12`.",
        )
    required = list(dict.fromkeys(name for group in _REQUIRED.findall(output) for name in _names(group)))
    if len(required) == 1 and (found := _NO_VERSION.search(output) or _ONLY.search(output)):
        return BuildFailed(f"The package index has no version that matches `{required[0]}`.", "Check the version.")
    theirs = [name for name in required if name not in NEEDS]
    ours = [name for name in required if name in NEEDS]
    if theirs and ours:
        return BuildFailed(f"{_subject(theirs)} with {_and(ours)}, which every session needs.", _PIN_HINT)
    if len(theirs) > 1:
        return BuildFailed(f"{_subject(theirs)} with each other.", _PIN_HINT)
    if theirs:
        return BuildFailed(f"The requirement `{theirs[0]}` cannot be met.", _PIN_HINT)
    return BuildFailed("The repository's requirements cannot be met together.", _LOG_HINT)


def _names(group: str) -> list[str]:
    """Return the requirements in uv's list `a==1, b and c`."""
    return [word for word in re.split(r",? and |, |\s", group.removeprefix("all of: ")) if word not in ("", "we")]


def _subject(names: list[str]) -> str:
    return f"The requirement {_and(names)} conflicts" if len(names) == 1 else f"The requirements {_and(names)} conflict"


def _and(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
