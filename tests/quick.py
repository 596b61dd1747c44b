"""Find the quick tests: those that start no program but git, and no storage service within the test's own process.

The rule reads the code of a test and of its fixtures, and of everything in `tests` that these use, so there is no list
to maintain. It cannot see where code of the package starts a program. The audit hook refuses that while a quick test
runs; such a test carries the marker `processes`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

from pangeo_binder.command import WITH_LIMIT

SERVICES = ("subprocess", "http.server", "playwright", "pangeo_binder.storage.app")
"""Modules that a test only uses to start a program, a git server, a browser or the storage service."""
GIT = ("tests.repos.gitrepo", "tests.stack.repository")
"""Modules of `tests` that run git alone, which takes milliseconds."""
PROGRAMS = ("git",)
"""What a quick test may run."""

_FOLLOWED = ("tests.", *SERVICES)
_uses: dict[int, tuple[Any, list[Any]]] = {}
"""What each object of `tests` uses, by its `id`; the object is kept so that no other one gets that id."""


def starts_service(used: Any) -> bool:
    """Whether a function or class of `tests`, or anything it uses, starts a service."""
    reached, waiting = {id(used)}, [used]
    while waiting:
        each = waiting.pop()
        module = _module(each)
        if any(module == service or module.startswith(f"{service}.") for service in SERVICES):
            return True
        if module.startswith("tests.") and module not in GIT:
            if id(each) not in _uses:
                _uses[id(each)] = each, [used for used in _used_by(each) if _module(used).startswith(_FOLLOWED)]
            found = [new for new in _uses[id(each)][1] if id(new) not in reached]
            reached.update(map(id, found))
            waiting += found
    return False


def _module(used: Any) -> str:
    """Return the name of the module that defines `used`, or of the module that it is."""
    name = used.__name__ if isinstance(used, ModuleType) else getattr(used, "__module__", None)
    return name if isinstance(name, str) else ""


def _used_by(used: Any) -> Iterator[Any]:
    """Yield the globals that the code of a function uses, or of all methods of a class."""
    if inspect.isclass(used):
        for member in vars(used).values():
            yield from _used_by(getattr(member, "fget", None) or inspect.unwrap(getattr(member, "__func__", member)))
        yield from used.__bases__
    elif isinstance(function := inspect.unwrap(getattr(used, "__func__", used)), FunctionType):
        for name in _names(function.__code__):
            if name in function.__globals__:
                yield function.__globals__[name]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def is_quick(item: pytest.Item) -> bool:
    """Whether a test starts no service, nor any of its fixtures."""
    if not isinstance(item, pytest.Function) or item.get_closest_marker("processes"):
        return False
    fixtures = [each.func for defined in item._fixtureinfo.name2fixturedefs.values() for each in defined]
    return not any(map(starts_service, (item.function, *fixtures)))


def _program(executable: Any, argv: Any) -> str:
    """Return the name of a program, which a shell that only limits its memory may start."""
    words = [os.fsdecode(word) for word in argv]
    if WITH_LIMIT in words:
        return words[words.index(WITH_LIMIT) + len(("sh", "KiB", "program"))]
    return Path(os.fsdecode(executable)).name


def refusal(running: Callable[[], str]) -> Callable[[str, tuple[Any, ...]], None]:
    """Return an audit hook that lets no program but `PROGRAMS` start while `running` names a quick test.

    https://docs.python.org/3/library/audit_events.html: an exception of the hook ends what was tried.
    """

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and (test := running()):
            program = _program(*arguments[:2])
            if program not in PROGRAMS:
                raise AssertionError(f"{test} is a quick test and starts `{program}`: mark it with `processes`")

    return refuse
