"""Read a repository's requirements files as pip does, and write what uv reads: one file, in UTF-8, without includes.

uv stops at parts of pip's format that pip takes: encodings, `-e git+…`, relative `--find-links`, `--pre`. Each line
keeps its place, so that an error can name it. Runs in the binder, in a thread. Not for the meaning of one line
(`pip_lines`) nor for uv's errors (`explain`).
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

from ...errors import BuildFailed
from .explain import explain, own_indexes
from .pip_lines import IGNORED, KEPT, Line, check, logical_lines, option, printable, without_editable

_BYTES: Final = 1 << 20
"""How much is read of all requirements files together."""
_FILES: Final = 50
_LINES: Final = 20_000
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""The marks by which pip recognises an encoding; UTF-32 first, because its little-endian mark begins with UTF-16's."""
_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
"""PEP 263, which pip reads in the first two lines."""
_SLOW_CODECS: Final = frozenset(("idna", "punycode"))
_COMMENT = re.compile(rb"(?:^|\s)#.*$")
_SAVE: Final = "Save it as UTF-8, or name its encoding in the first line: `# -*- coding: latin-1 -*-`."


@dataclass(slots=True)
class Requirements:
    """What a repository's requirements files say."""

    lines: list[Line] = field(default_factory=list)
    constraints: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences for the build's log."""
    require_hashes: bool = False
    prereleases: bool = False
    _places: dict[str, list[Line]] = field(default_factory=dict)

    @property
    def apart(self) -> bool:
        """Whether they are installed before and without the session's needs, to which their options must not apply."""
        wanted = [line for line in self.lines if line.is_requirement]
        hashed = self.require_hashes or all(line.has_hash for line in wanted)
        strict = any(line.text in ("--no-index", "--no-binary :all:") for line in self.lines)
        return bool(wanted) and (hashed or self.prereleases or strict)

    @property
    def indexes(self) -> dict[str, str]:
        """The hosts of the package indexes that the files name, each with the file that names it."""
        return {host: line.file for line in self.lines for host in own_indexes(line.text)}

    def write(self, folder: Path) -> tuple[str, ...]:
        """Write them into `folder`, and return uv's arguments for them."""
        arguments: list[str] = []
        for name, flag, lines in (("requirements", "-r", self.lines), ("constraints", "-c", self.constraints)):
            if lines:
                path = folder / f"{name}.txt"
                path.write_text("".join(f"{line.text}\n" for line in lines), encoding="utf-8")
                arguments += [flag, str(path)]
        arguments += ["--require-hashes"] if self.require_hashes else []
        arguments += ["--prerelease", "allow"] if self.prereleases else []
        if any(line.text.startswith("--extra-index-url") for line in self.lines):
            # pip takes the best version of all indexes; uv would take any version of the first that has the name
            arguments += ["--index-strategy", "unsafe-best-match"]
        return tuple(arguments)

    def explain(self, output: Sequence[str]) -> BuildFailed:
        """Return the error that explains why uv failed, from the last lines of its output, with the places to mend."""
        return self._locate(explain(output, self.indexes))

    def _locate(self, error: BuildFailed) -> BuildFailed:
        """Return `error` with the places of the requirements that it names, at the beginning of its hint."""
        if "not a valid requirement" in error.message:
            wrong = next((line for line in self._all if not line.is_valid), None)
            if wrong is None:
                return error
            message = f"{printable(wrong.file)} has a line that is not a valid requirement."
            return BuildFailed(message, f"It is line {wrong.number}: `{wrong.shown}`.")
        found = [line for name in re.findall(r"`([^`]+)`", error.message) if (line := self._find(name))]
        places = ", ".join(dict.fromkeys(line.where for line in found))
        return BuildFailed(error.message, f"See {places}. {error.hint}") if places else error

    @property
    def _all(self) -> list[Line]:
        return [*self.lines, *self.constraints]

    def _find(self, requirement: str) -> Line | None:
        if not self._places:
            for line in self._all:
                self._places.setdefault(line.name, []).append(line)
        name = canonicalize_name(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])
        same = self._places.get(name, []) if name else []
        exact = [line for line in same if line.text.replace(" ", "").startswith(requirement)]
        return next(iter((*exact, *same)), None)


def read_requirements(checkout: Path, file: str, variables: Container[str]) -> Requirements:
    """Return what `file`, a path in `checkout`, says, with all files that it includes; nothing if it is empty.

    Raises BuildFailed for a line that cannot be installed; it names the line and says what to write instead.
    """
    reader = _Reader(checkout, variables)
    if file:
        reader.read(checkout.resolve() / file, reader.found.lines)
    return reader.found


class _Reader:
    """Reader of one repository's files."""

    def __init__(self, checkout: Path, variables: Container[str]) -> None:
        self.found = Requirements()
        self._checkout, self._variables = checkout.resolve(), variables
        self._seen: set[tuple[Path, int]] = set()
        self._left, self._lines = _BYTES, 0

    def read(self, path: Path, into: list[Line]) -> None:
        """Read a file into `into`: the requirements or the constraints."""
        if (path, id(into)) in self._seen:
            return
        self._seen.add((path, id(into)))
        name = str(path.relative_to(self._checkout))
        with path.open("rb") as file:
            data = file.read(self._left + 1)
        self._left -= len(data)
        self._check_bounds()
        for line in logical_lines(self._decode(data, name), name):
            self._lines += 1
            self._check_bounds()
            check(line, self._variables)
            if line.is_option:
                self._take_option(line, path.parent, into)
            else:
                self._check_local(line)
                into.append(line)

    def _check_bounds(self) -> None:
        if self._left < 0 or self._lines > _LINES or len(self._seen) > _FILES:
            raise BuildFailed(
                f"The requirements are more than this binder reads: {_FILES} files, {_LINES:,} lines, 1 MiB in total.",
                "Shorten them.",
            )

    def _take_option(self, line: Line, folder: Path, into: list[Line]) -> None:
        name, value = option(line)
        match name:
            case "--requirement" | "--constraint":
                self._include(line, value, folder, self.found.constraints if name == "--constraint" else into)
            case "--editable":
                self._take_editable(line, into)
            case "--find-links":
                address = value if "://" in value else self._inside(line, value, folder, Path.is_dir).as_uri()
                into.append(replace(line, text=f"--find-links {address}"))
            case "--require-hashes":
                self.found.require_hashes = True
            case "--pre":
                self.found.prereleases = True
            case "--no-binary" | "--only-binary":
                into.extend(replace(line, text=f"{name} {each.strip()}") for each in value.split(","))
            case _ if name in KEPT:
                into.append(replace(line, text=f"{name} {value}".rstrip()))
            case _ if name in IGNORED:
                self.found.notes.append(f"{line.where}: the option {name} is ignored")
            case _:
                raise line.refusal("is not an option that pip takes in a requirements file", "Remove the line.")

    def _include(self, line: Line, value: str, folder: Path, into: list[Line]) -> None:
        if "://" in value:
            into.append(line)
        else:
            self.read(self._inside(line, value, folder, Path.is_file), into)

    def _take_editable(self, line: Line, into: list[Line]) -> None:
        plain = without_editable(line)
        named = plain or replace(line, text=option(line)[1])
        check(named, self._variables)
        if plain:
            self.found.notes.append(f"{line.where}: installed, but not as editable")
        self._check_local(named)
        into.append(plain or line)

    def _check_local(self, line: Line) -> None:
        """Raise BuildFailed if a line names a file or folder of the repository that is absent."""
        if line.text.startswith("."):
            self._inside(line, re.split(r"[\s\[#;]", line.text, maxsplit=1)[0], self._checkout, Path.exists)

    def _inside(self, line: Line, value: str, folder: Path, is_there: Callable[[Path], bool]) -> Path:
        """Return what `value` names from `folder`, or from the top of the repository, as pip takes it."""
        for start in (folder, self._checkout):
            path = Path(os.path.normpath(start / value.replace("\\", "/")))
            if path.is_relative_to(self._checkout) and path.resolve().is_relative_to(self._checkout) and is_there(path):
                return path
        raise BuildFailed(
            f"The requirements name the file {printable(value)}, which is not in the repository.",
            f"It is named in {line.where}. Add it, or remove the line.",
        )

    def _decode(self, data: bytes, name: str) -> str:
        """Return the text, by its mark, else by a comment (PEP 263), else as UTF-8."""
        for mark, encoding in _BOMS:
            if data.startswith(mark):
                return _decoded(data.removeprefix(mark), encoding, name)
        for first in data.split(b"\n", 2)[:2]:
            if found := _CODING.match(first):
                return _decoded(data, found[1].decode(), name)
        try:
            return data.decode()
        except UnicodeDecodeError:
            _check_outside_comments(data.splitlines(), name)
        self.found.notes.append(f"{name} is not in UTF-8; its comments are read as Latin-1")
        return data.decode("latin-1")


def _decoded(data: bytes, encoding: str, name: str) -> str:
    try:
        if codecs.lookup(encoding).name in _SLOW_CODECS:
            raise LookupError(encoding)
        return data.decode(encoding)
    except (LookupError, UnicodeError):
        raise BuildFailed(f"{name} cannot be read in its encoding, `{encoding[:40]}`.", _SAVE) from None


def _check_outside_comments(lines: Sequence[bytes], name: str) -> None:
    """Raise BuildFailed if more than the comments is not in UTF-8; pip would read it by the machine's locale."""
    for number, line in enumerate(lines, 1):
        try:
            _COMMENT.sub(b"", line).decode()
        except UnicodeDecodeError:
            raise BuildFailed(f"{name}, line {number}: the text is not in UTF-8.", _SAVE) from None
