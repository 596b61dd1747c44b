"""Turns what uv says when it fails into one sentence naming the requirement at fault.

Pure. uv's words are not a contract, so what is not recognised gets a general sentence; the log holds the rest.
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

_PIN_HINT: Final = "Loosen or drop one of them, and open the link again."
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
    """Return the hosts, with their ports, of the package indexes that the text of a requirements file names."""
    return [urlsplit(url).netloc.rpartition("@")[2] for url in _INDEX_LINE.findall(requirements)]


def explain(lines: Sequence[str], indexes: Mapping[str, str] = _NONE) -> BuildFailed:
    """Return the error that says why uv failed, from the last lines it wrote.

    `indexes` are the hosts of indexes that the repository names itself, each with the file that does.
    """
    said = " ".join(" ".join(re.sub(r"[^\x20-\x7e]", " ", line) for line in lines).split())
    if any(words in said for words in _FULL):
        return disk_full()
    if "unsatisfiable" in said or "No solution found" in said:
        return _unsatisfiable(said)
    if any(words in said for words in _OFFLINE):
        for host, file in indexes.items():
            if f"//{host}/" in said or f"@{host}/" in said:
                return BuildFailed(
                    f"The package index {host} that {file} names cannot be reached from this binder.",
                    "Name one in it that can be, or none: then the binder's own index is used.",
                )
        return BuildFailed("The package index cannot be reached from this binder.", "Try again in a few minutes.")
    if found := _BAD_LINE.search(said):
        name = (found[1] or found[2]).rsplit("/", 1)[-1]
        return BuildFailed(f"{name} has a line that is no requirement.", "The log shows which.")
    if found := _NO_FILE.search(said):
        name = found[1].rsplit("/", 1)[-1]
        return BuildFailed(f"The requirements name the file {name}, which is not in the repository.", "Add it.")
    if found := _NOT_BUILT.search(said):
        name = found[1].partition(" @ file:")[0]
        return BuildFailed(f"The package `{name}` could not be built.", "The log says why.")
    if "The build backend returned an error" in said:
        return BuildFailed("The repository's own package could not be built.", "The log says why.")
    if "Git operation failed" in said:
        return BuildFailed("A requirement's git repository could not be read.", "Is it public?")
    return BuildFailed("The repository's Python packages could not be installed.", "The log says why.")


def _unsatisfiable(said: str) -> BuildFailed:
    if found := _NOT_THERE.search(said):
        return BuildFailed(f"There is no package `{found[1]}` on the package index.", "Check its spelling.")
    if found := _PYTHON.search(said):
        return BuildFailed(
            f"A requirement of this repository needs {found[2]}, but its environment has Python {found[1]}.",
            "Name the Python it needs in runtime.txt, as `python-3.12`.",
        )
    required = list(dict.fromkeys(name for group in _REQUIRED.findall(said) for name in _names(group)))
    if len(required) == 1 and (found := _NO_VERSION.search(said) or _ONLY.search(said)):
        return BuildFailed(f"No version of a package on the package index is `{required[0]}`.", "Check its number.")
    theirs = [name for name in required if name not in NEEDS]
    ours = [name for name in required if name in NEEDS]
    if theirs and ours:
        return BuildFailed(f"{_subject(theirs)} with {_and(ours)}, which every session needs.", _PIN_HINT)
    if len(theirs) > 1:
        return BuildFailed(f"{_subject(theirs)} with each other.", _PIN_HINT)
    if theirs:
        return BuildFailed(f"The requirement `{theirs[0]}` cannot be met.", _PIN_HINT)
    return BuildFailed("The repository's requirements cannot be met together.", "The log says why.")


def _names(group: str) -> list[str]:
    """Return the requirements in uv's enumeration `a==1, b and c`."""
    return [word for word in re.split(r",? and |, |\s", group.removeprefix("all of: ")) if word not in ("", "we")]


def _subject(names: list[str]) -> str:
    return f"The requirement {_and(names)} conflicts" if len(names) == 1 else f"The requirements {_and(names)} conflict"


def _and(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
