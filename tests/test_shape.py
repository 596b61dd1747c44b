"""The code keeps its shape: sizes, docstrings, words. Each limit stands here once, with where it comes from."""

from __future__ import annotations

import ast
import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pangeo_binder"

# docs/design.md, §7 "Sizes", what is never exceeded
FUNCTION_LINES = 60
PARAMETERS = 8
MODULE_LINES = 400
HANDLER_LINES = 25
TEMPLATE_LINES = 120
README_LINES = 120
# docs/design.md, §7, rule 10
FORBIDDEN_NAMES = {"utils", "helpers", "common", "manager"}
# of the same kind, for what has to be read in one go
CONTRIBUTING_LINES = 60
POLICY_REFERENCE_LINES = 150
MAKE_TARGETS = 8

MODULES = sorted(PACKAGE.rglob("*.py"))
SESSION_MODULES = sorted((ROOT / "session").rglob("*.py"))
FOLDERS = ("pangeo_binder", "session", "templates", "tests", "docs", "benchmarks", "examples", "images", "helm-chart")
METRIC_KINDS = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"}
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))


@dataclass(frozen=True, slots=True)
class Function:
    """A function or method of the code."""

    where: str
    node: ast.FunctionDef | ast.AsyncFunctionDef
    in_class: bool

    @property
    def lines(self) -> int:
        """The lines of its body, without its docstring."""
        body = self.node.body[1:] if ast.get_docstring(self.node) else self.node.body
        return body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]  # set by ast.parse

    @property
    def parameters(self) -> int:
        """How many arguments a caller may give."""
        args = self.node.args
        given = [*args.posonlyargs, *args.args, *args.kwonlyargs]
        return len([arg for arg in given if arg.arg not in ("self", "cls")])


def _functions(paths: list[Path]) -> Iterator[Function]:
    for path in paths:
        tree = ast.parse(path.read_text())
        methods = {child for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for child in node.body}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                yield Function(where, node, node in methods)


def _length(path: Path) -> int:
    return len(path.read_text().splitlines())


def _named(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths])


def test_no_function_is_too_long_or_takes_too_much() -> None:
    functions = list(_functions([*MODULES, *SESSION_MODULES]))
    assert functions
    assert [each.where for each in functions if each.lines > FUNCTION_LINES] == []
    assert [each.where for each in functions if each.parameters > PARAMETERS] == []


def test_no_handler_does_what_others_should() -> None:
    methods = [each for each in _functions(sorted((PACKAGE / "web").rglob("*.py"))) if each.in_class]
    assert methods
    assert [each.where for each in methods if each.lines > HANDLER_LINES] == []


@_named([*MODULES, *SESSION_MODULES])
def test_a_module_says_what_it_is_for_and_stays_short(path: Path) -> None:
    assert _length(path) <= MODULE_LINES
    assert ast.get_docstring(ast.parse(path.read_text())), "the docstring says what it is responsible for"
    assert not FORBIDDEN_NAMES & {path.stem, path.parent.name}


@_named(TEMPLATES)
def test_a_template_stays_short(path: Path) -> None:
    assert _length(path) <= TEMPLATE_LINES


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("README.md", README_LINES),
        ("CONTRIBUTING.md", CONTRIBUTING_LINES),
        ("docs/policy.md", POLICY_REFERENCE_LINES),
    ],
)
def test_a_text_for_newcomers_is_read_in_one_go(name: str, lines: int) -> None:
    assert 0 < _length(ROOT / name) <= lines


def test_contributing_says_what_each_folder_of_tests_covers() -> None:
    rows = re.findall(r"^\| (`.*?`) \| \S", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == {path.parent.name for path in (ROOT / "tests").glob("*/*.py")}


def test_contributing_names_targets_that_exist() -> None:
    named = set(re.findall(r"\bmake ([\w-]+)", (ROOT / "CONTRIBUTING.md").read_text()))
    phony = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    assert "quick" in named and named <= set(phony.split())


def test_the_makefile_is_a_list_of_single_lines() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    phony = next(line for line in lines if line.startswith(".PHONY:")).split()[1:]
    assert 0 < len(phony) <= MAKE_TARGETS
    assert [line for line in lines if line.startswith("\t") or line.endswith("\\")] == []
    assert all(any(re.match(rf"{target}:.*; ?\S", line) for line in lines) for target in phony)


def test_pytest_enters_every_folder_with_tests(pytestconfig: pytest.Config) -> None:
    skipped = pytestconfig.getini("norecursedirs")
    folders = {folder for path in (ROOT / "tests").rglob("test_*.py") for folder in path.relative_to(ROOT).parts[:-1]}
    assert len(folders) > 10
    assert [each for each in folders if any(fnmatch.fnmatch(each, pattern) for pattern in skipped)] == []


def test_nothing_is_left_for_later() -> None:
    later = re.compile("TO" + "DO|FIX" + "ME")
    texts = [path for path in ROOT.glob("*") if path.is_file()]
    for folder in FOLDERS:
        texts += [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert [str(path) for path in texts if later.search(path.read_text(errors="ignore"))] == []


def _makes_metrics(path: Path) -> bool:
    used: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "prometheus_client":
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "prometheus_client":
            used.add(node.attr)
    return bool(used & METRIC_KINDS)


def test_metrics_are_made_in_one_table_and_binderhubs_in_another() -> None:
    tables = [PACKAGE / "binderhub_metrics.py", PACKAGE / "metrics.py"]
    assert sorted(path for path in MODULES if _makes_metrics(path)) == tables


def test_binderhubs_metrics_have_its_name() -> None:
    tree = ast.parse((PACKAGE / "binderhub_metrics.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    made = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in METRIC_KINDS]
    names = [ast.literal_eval(call.args[0]) for call in made]
    assert names and all(name.startswith("binderhub_") for name in names)


def test_every_metric_is_used_and_has_the_projects_name() -> None:
    tree = ast.parse((PACKAGE / "metrics.py").read_text())
    table = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    elsewhere = "\n".join(path.read_text() for path in MODULES if path.name != "metrics.py")
    for name, made in table.items():
        assert re.search(rf"\b{name}\b", elsewhere), f"{name} is never counted"
        assert isinstance(made, ast.Call) and ast.literal_eval(made.args[0]).startswith("pangeo_binder_")
