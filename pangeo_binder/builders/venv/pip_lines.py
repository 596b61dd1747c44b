"""One line of a requirements file: what pip does with it, for uv, which reads less of pip's format.

Pure, except that it looks whether a path exists on this machine. The format is pip's:
https://pip.pypa.io/en/stable/reference/requirements-file-format/
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from ...errors import BuildFailed

IGNORED: Final = frozenset(("--trusted-host", "--prefer-binary", "--use-feature"))
"""pip's options that change nothing in what is installed, or that a repository may not decide: whom to trust."""
KEPT: Final = frozenset(("--index-url", "--extra-index-url", "--no-index", "--no-binary", "--only-binary"))
"""Options that uv reads in a file as pip does."""
_SHORT: Final = {
    "-r": "--requirement", "-c": "--constraint", "-e": "--editable", "-i": "--index-url", "-f": "--find-links",
    "--requirements": "--requirement", "--constraints": "--constraint", "--pypi-url": "--index-url",
}  # fmt: skip
_SHOWN_CHARACTERS: Final = 120
_LINE_CHARACTERS: Final = 1 << 15
"""The longest logical line; a package with a hundred hashes has 8,000 characters."""
_URL_CHARACTERS: Final = 4096
_LINE_END = re.compile(r"\r\n|\r|\n")  # str.splitlines also splits at characters that comments in Latin-1 have
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_NEXT_OPTION = re.compile(r"\s(?=--?[A-Za-z])")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_VCS = re.compile(r"(?:[\w.-]+(?:\[[\w,.-]*\])? *@ *)?(git|hg|svn|bzr)\+")
_URL_PART = re.compile(r"^(?:([\w.-]+)(?:\[[\w,.\s-]*\])?\s*@\s*)?(\S+)")
_WINDOWS_PATH = re.compile(r"(?:file:/*)?(?:[A-Za-z]:[\\/]|\\\\|\.{1,2}\\)")
_CONDA = re.compile(r"([\w.-]+)=([\w.!+-]+)(?:=[\w.]+)?")
_SHELL = re.compile(r"[!%]?\s*(?:python3?\s+-m\s+)?(?:pip3?|conda|mamba)\s+install\b")
_HASH = re.compile(r"\s--hash[ =]")


@dataclass(frozen=True, slots=True)
class Line:
    """A logical line of a requirements file, without comments and with its continuations."""

    file: str
    """The file's path in the repository."""
    number: int
    """The number of its first line, from 1."""
    text: str

    @property
    def where(self) -> str:
        """The place as a sentence names it."""
        return f"{printable(self.file)}, line {self.number}"

    @property
    def shown(self) -> str:
        """The text for a sentence, without passwords in addresses."""
        return printable(_USERINFO.sub("", self.text))

    @property
    def is_option(self) -> bool:
        return self.text.startswith("-")

    @property
    def is_requirement(self) -> bool:
        return not self.is_option or option(self)[0] == "--editable"

    @property
    def has_hash(self) -> bool:
        return bool(_HASH.search(self.text))

    @property
    def name(self) -> str:
        """The normalized name of the required package; empty for an option, an address or anything invalid."""
        parsed = self._parsed
        return canonicalize_name(parsed.name) if parsed else ""

    @property
    def is_valid(self) -> bool:
        """Whether it is a requirement by name, or has a form that only uv can judge."""
        return self._parsed is not None or self.is_option or "/" in self.text or self.text.startswith(".")

    @property
    def is_for_another_machine(self) -> bool:
        """Whether its marker excludes this machine."""
        parsed = self._parsed
        with suppress(Exception):  # a marker may name an extra, or compare what has no order
            return bool(parsed and parsed.marker and not parsed.marker.evaluate())
        return False

    @property
    def _parsed(self) -> Requirement | None:
        with suppress(InvalidRequirement, RecursionError):
            return None if self.is_option else Requirement(_NEXT_OPTION.split(self.text, maxsplit=1)[0])
        return None

    def refusal(self, problem: str, hint: str) -> BuildFailed:
        """Return the error that names this line."""
        return BuildFailed(f"{self.where}: `{self.shown}` {problem}.", hint)


def printable(text: str) -> str:
    """Return the beginning of a repository's text in a form for a sentence."""
    shown = text[:_SHOWN_CHARACTERS].replace("`", "'")
    return "".join(character if character.isprintable() else "?" for character in shown)


def logical_lines(text: str, file: str) -> Iterator[Line]:
    """Yield the lines of a file as pip joins them, one option each. Raises BuildFailed for a line that is too long."""
    parts: list[str] = []
    first = 0
    for number, line in enumerate([*_LINE_END.split(text), ""], 1):
        first = first if parts else number
        is_comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not is_comment:
            parts.append(line.strip("\\"))
            continue
        joined = _COMMENT.sub("", "".join((*parts, f" {line}" if is_comment else line))).strip()
        parts = []
        if len(joined) > _LINE_CHARACTERS:
            raise Line(file, first, joined).refusal("is longer than this binder reads", "Shorten the line.")
        for part in _NEXT_OPTION.split(joined) if joined.startswith("-") else (joined,):
            if part.strip():
                yield Line(file, first, part.strip())


def option(line: Line) -> tuple[str, str]:
    """Return the long name and the value of a line that is an option."""
    if line.text.startswith("--"):
        name, value = (*re.split(r"[=\s]\s*", line.text, maxsplit=1), "")[:2]
    else:
        name, value = line.text[:2], line.text[2:].lstrip(" =")
    return _SHORT.get(name, name), value.strip().strip("\"'")


def check(line: Line, variables: Container[str]) -> None:
    """Raise BuildFailed with what to write instead, if pip or uv cannot install a line on this machine.

    `variables` are those of the build. A line whose marker excludes this machine is not checked.
    """
    for name in _VARIABLE.findall(line.text):
        if name not in variables:
            raise line.refusal(f"needs the variable {name}, which builds do not have", "Use a public address.")
    if line.is_option or line.is_for_another_machine:
        return
    for check_form in (_check_options, _check_commands, _check_vcs, _check_paths):
        check_form(line)


def _check_options(line: Line) -> None:
    for part in map(str.strip, _NEXT_OPTION.split(line.text)[1:]):
        name = re.split(r"[=\s]", part, maxsplit=1)[0]
        if name != "--hash":
            raise line.refusal(f"has the option {name}, which this binder does not support", "Remove the option.")


def _check_commands(line: Line) -> None:
    text = line.text
    if _SHELL.match(text):
        raise line.refusal("is a command", "Write only the packages, one a line.")
    if text == "@EXPLICIT":
        raise line.refusal("is of a list for conda", "Write the packages as `pip list --format=freeze` prints them.")
    if (found := _CONDA.fullmatch(text)) and "==" not in text:
        raise line.refusal("is written as for conda", f"Write {found[1]}=={found[2]}.")


def _check_vcs(line: Line) -> None:
    found = _VCS.match(line.text)
    if found and found[1] != "git":
        raise line.refusal(f"needs {found[1]}, and only git repositories can be installed", "Use a release.")
    if line.text.startswith("git://"):
        raise line.refusal("is an address that pip does not read", f"Write git+https{line.shown.removeprefix('git')}.")


def _check_paths(line: Line) -> None:
    found = _URL_PART.match(line.text)
    name, url = (found[1] or "", found[2][:_URL_CHARACTERS]) if found else ("", "")
    if _WINDOWS_PATH.match(url):
        raise _elsewhere(line, name)
    local = url.removeprefix("git+")
    if local.startswith(("file://", "/")):
        path = unquote(urlsplit(local).path) if local.startswith("file:") else local
        if not _exists(re.sub(r"(?:@[^/@]*|\[[^]/]*\])?(?:#.*)?$", "", path)):
            raise _elsewhere(line, name)


def _elsewhere(line: Line, name: str) -> BuildFailed:
    package = name or "name"
    return line.refusal("points at a folder of its author's machine", f"Write {package}==<version> instead.")


def _exists(path: str) -> bool:
    with suppress(OSError, ValueError):
        return Path(path).exists()
    return False


def without_editable(line: Line) -> Line | None:
    """Return the line for a git repository that `-e` names; None if it names a folder, which uv installs so, too.

    uv has no editable installs from git; what is installed is the same, without a clone for editing.
    """
    value = option(line)[1]
    return replace(line, text=value) if _VCS.match(value) else None
