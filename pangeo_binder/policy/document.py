"""Reads YAML so that each mistake in it can be reported with its line. Pure: text in, data and problems out.

Stricter than YAML, which silently accepts common mistakes in policies: keys given twice, keys without a value, aliases.
Not for what the data means (`model`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml

from ..errors import PangeoBinderError

Location = tuple[str | int, ...]
"""The path of keys and list positions to a part of a document."""

_NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a document."""

    line: int
    """From 1."""
    text: str


class NotYaml(PangeoBinderError):
    """The text cannot be read at all; holds the one problem that ended the reading."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(line, text)


@dataclass(frozen=True, slots=True)
class Document:
    """The data of a text, and the line of each part."""

    data: Any
    lines: dict[Location, int]
    problems: tuple[Problem, ...]
    """Keys given twice and keys without a value."""

    def line(self, location: Location) -> int:
        """Return the line of `location`, or of the closest part around it that is in the text."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


class _Loader(yaml.SafeLoader):
    """Builds plain data only; refuses aliases, which make a short text endless, and locates malformed values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            alias = self.get_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(context=_ALIAS, problem_mark=alias.start_mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)  # type: ignore[no-untyped-call]
        except ValueError:  # such as a date in a thirteenth month
            problem = "this value is malformed; put it in quotes if it is a text"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None


_ALIAS = "while scanning an alias"  # PyYAML's own words if the text after `*` is not an alias either


def document_of(raw: bytes) -> Document:
    """Return the document in `raw`. Raises NotYaml if it cannot be read at all."""
    return _reading(_read, raw)


def part_of(raw: bytes, key: str) -> bytes:
    """Return the document below `key` of the mapping in `raw`, with every line where it was.

    Raises NotYaml if `raw` cannot be read at all, or has no such key.
    """

    def excerpt(text: str) -> bytes:
        root = yaml.compose(text, yaml.SafeLoader)
        for name, node in root.value if isinstance(root, yaml.MappingNode) else ():
            if name.value == key:
                start, end = node.start_mark, node.end_mark
                part: str = "\n" * start.line + " " * start.column + text[start.index : end.index]
                return part.encode()
        raise NotYaml(1, f"There is no `{key}` in this file.")

    return _reading(excerpt, raw)


_Read = TypeVar("_Read")


def _reading(read: Callable[[str], _Read], raw: bytes) -> _Read:
    """Return what `read` makes of the text in `raw`. Raises NotYaml with what is wrong with it as YAML."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotYaml(raw.count(b"\n", 0, error.start) + 1, "The file is not UTF-8 from here on.") from None
    try:
        return read(text)
    except yaml.reader.ReaderError as error:
        raise NotYaml(text.count("\n", 0, error.position) + 1, "There is a control character here.") from None
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error, text) from None
    except RecursionError:
        raise NotYaml(1, "The file is nested too deeply.") from None


def _read(text: str) -> Document:
    loader = _Loader(text)
    node = loader.get_single_node()
    if node is None:
        raise NotYaml(1, "The file is empty.")
    lines: dict[Location, int] = {(): node.start_mark.line + 1}
    problems = tuple(_walk(node, (), lines))
    return Document(loader.construct_document(node), lines, problems)  # type: ignore[no-untyped-call]


def _walk(node: yaml.Node, at: Location, lines: dict[Location, int]) -> Iterator[Problem]:
    """Note the line of each location below `node`, and yield what YAML accepts and we do not."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _enter(item, (*at, index), item.start_mark.line + 1, lines)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            location, line = (*at, str(key.value)), key.start_mark.line + 1
            if location in lines:
                yield Problem(line, f"`{key.value}` stands here twice, first in line {lines[location]}.")
            yield from _enter(value, location, line, lines)


def _enter(node: yaml.Node, at: Location, line: int, lines: dict[Location, int]) -> Iterator[Problem]:
    lines[at] = line
    if node.tag == _NULL:
        yield Problem(line, f"`{at[-1]}` has no value." if isinstance(at[-1], str) else "This item has no value.")
    yield from _walk(node, at, lines)


def _not_yaml(error: yaml.MarkedYAMLError, text: str) -> NotYaml:
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark is not None else 0
    if error.context == _ALIAS:
        return NotYaml(line + 1, 'A text that begins with `*` needs quotes, as in "*"; aliases are not read here.')
    written = text.splitlines()[line : line + 1] or [""]
    if "\t" in written[0][: len(written[0]) - len(written[0].lstrip())]:
        return NotYaml(line + 1, "There is a tab here; YAML is indented with spaces.")
    return NotYaml(line + 1, f"This is not YAML: {', '.join(filter(None, (error.context, error.problem)))}.")
