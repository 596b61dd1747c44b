"""Translate uv's error output into one sentence that names the requirement at fault.

Pure. uv's messages are not a stable interface, so an unknown message gets a general sentence; the log has the details.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from ...errors import BuildFailed
from ..base import disk_full
from ..session_needs import NEEDS

_OUTPUT_CHARACTERS: Final = 1 << 16
"""How much of the end of the output is read; the repository's own commands write a part of it."""
_NAME_CHARACTERS: Final = 200
_SHOWN: Final = 10
"""How many requirements a sentence names, and how many indexes are compared."""
_PIN_HINT: Final = "Loosen or remove one of them, then open the link again."
_LOG_HINT: Final = "The log says why."
_LIST: Final = r"((?:all of: )?[^\s,]+(?:(?:,| and|, and) [^\s,]+)*)"
_REQUIRED = re.compile(rf"(?<!conclude that )you require {_LIST}")
_NOT_THERE = re.compile(r"(?:Because|because|and) ([\w.-]+(?:\[[\w,]+\])?) was not found in the package registry")
_NO_VERSION = re.compile(r"there (?:is|are) no versions? of ([^\s,]+)")
_ONLY = (re.compile(r"\bonly \S"), re.compile(r" (?:is|are) available"), re.compile(r" you require \S"))
_PYTHON = re.compile(r"the current Python version \(([\d.]+)\) does not satisfy (Python[^\s,]+)")
_BAD_LINE = re.compile(r"Couldn't parse requirement in `([^`]{1,300})`|Unsupported requirement in `?([^`\s]+)")
_NOT_BUILT = re.compile(r"Failed to (?:build|download and build|prepare) `([^`]{1,300})`")
_NO_FILE = re.compile(r"(?:[Ff]ailed to read from file|File not found:?|Distribution not found at:) `?([^`\s]+)`?")

_FULL = ("No space left on device", "os error 28", "Disk quota exceeded")
_OFFLINE = ("dns error", "tcp connect error", "client error (Connect)", "operation timed out", "network timeout")
_INDEX_LINE = re.compile(r"^[ \t]*(?:--index-url|--extra-index-url|-i)[ =]\s*(\S+)", re.MULTILINE)
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


def own_indexes(requirements: str) -> list[str]:
    """Return the hosts, with their ports, of the package indexes in the text of a requirements file."""
    hosts = []
    for url in _INDEX_LINE.findall(requirements)[:_SHOWN]:
        with suppress(ValueError):  # not a valid URL
            hosts.append(urlsplit(url).netloc.rpartition("@")[2])
    return hosts


def explain(lines: Sequence[str], indexes: Mapping[str, str] = _NONE) -> BuildFailed:
    """Return the error that explains why uv failed, from the last lines of its output.

    `indexes` maps the host of each index that the repository names to the file that names it.
    """
    output = _joined(lines)
    if any(words in output for words in _FULL):
        return disk_full()
    if is_unsatisfiable(lines):
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
        name = (found[1] or found[2]).rsplit("/", 1)[-1][:_NAME_CHARACTERS]
        return BuildFailed(f"{name} has a line that is not a valid requirement.", "The log shows which one.")
    if found := _NO_FILE.search(output):
        name = found[1].rsplit("/", 1)[-1][:_NAME_CHARACTERS]
        return BuildFailed(f"The requirements name the file {name}, which is not in the repository.", "Add the file.")
    if found := _NOT_BUILT.search(output):
        name = found[1].partition(" @ file:")[0]
        return BuildFailed(f"The package `{name}` could not be built.", _LOG_HINT)
    if "The build backend returned an error" in output:
        return BuildFailed("The repository's own package could not be built.", _LOG_HINT)
    if "Git operation failed" in output:
        return BuildFailed("A requirement's git repository could not be read.", "Check that it is public.")
    return BuildFailed("The repository's Python packages could not be installed.", _LOG_HINT)


def is_unsatisfiable(lines: Sequence[str]) -> bool:
    """Return whether uv failed because no versions of the requirements fit together."""
    output = _joined(lines)
    return "unsatisfiable" in output or "No solution found" in output


def _joined(lines: Sequence[str]) -> str:
    return " ".join(re.sub(r"[^\x20-\x7e]", " ", " ".join(lines)[-_OUTPUT_CHARACTERS:]).split())


def _unsatisfiable(output: str) -> BuildFailed:
    if found := _NOT_THERE.search(output):
        return BuildFailed(f"The package index has no package `{found[1][:_NAME_CHARACTERS]}`.", "Check its spelling.")
    if found := _PYTHON.search(output):
        return BuildFailed(
            f"A requirement of this repository needs {found[2]}, but its environment has Python {found[1]}.",
            "Name the required Python in runtime.txt, for example `python-3.12`.",
        )
    required = list(dict.fromkeys(name for group in _REQUIRED.findall(output) for name in _names(group)))
    if len(required) == 1 and (_NO_VERSION.search(output) or _is_in_order(_ONLY, output)):
        return BuildFailed(
            f"The package index has no version that matches `{required[0][:_NAME_CHARACTERS]}`.", "Check the version."
        )
    theirs = [name for name in required if name not in NEEDS]
    ours = [name for name in required if name in NEEDS]
    if theirs and ours:
        return BuildFailed(f"{_subject(theirs)} with {_and(ours)}, which every session needs.", _PIN_HINT)
    if len(theirs) > 1:
        return BuildFailed(f"{_subject(theirs)} with each other.", _PIN_HINT)
    if theirs:
        return BuildFailed(f"The requirement `{theirs[0][:_NAME_CHARACTERS]}` cannot be met.", _PIN_HINT)
    return BuildFailed("The repository's requirements cannot be met together.", _LOG_HINT)


def _is_in_order(patterns: Sequence[re.Pattern[str]], output: str) -> bool:
    """Return whether `output` has a match of each pattern, one after the other; in linear time."""
    position = 0
    for pattern in patterns:
        found = pattern.search(output, position)
        if found is None:
            return False
        position = found.end()
    return True


def _names(group: str) -> list[str]:
    """Return the requirements in uv's list `a==1, b and c`."""
    return [word for word in re.split(r",? and |, |\s", group.removeprefix("all of: ")) if word not in ("", "we")]


def _subject(names: list[str]) -> str:
    return f"The requirement {_and(names)} conflicts" if len(names) == 1 else f"The requirements {_and(names)} conflict"


def _and(names: list[str]) -> str:
    quoted = [f"`{name[:_NAME_CHARACTERS]}`" for name in names[:_SHOWN]]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
