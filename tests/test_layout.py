"""The layout in docs/design.md is the tree: each file and folder it names exists, and none is missing in it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pangeo_binder"


def _layout() -> list[str]:
    """Return the lines of the layout's code block."""
    text = (ROOT / "docs" / "design.md").read_text()
    return text.partition("## 3. Layout")[2].split("```")[1].strip("\n").splitlines()


def _modules_drawn() -> set[str]:
    """Return the modules of the package that the layout names, relative to it."""
    drawn, folder = set(), ""
    for line in _layout():
        if found := re.match(r"  ([a-z0-9_/]+)/ +(.*)", line):
            folder, names = found.groups()
        elif found := re.match(r"  ([a-z0-9_]+\.py) ", line):
            drawn.add(found[1])
            continue
        elif folder and line.startswith(" " * 10):
            names = line
        else:
            continue
        drawn |= {f"{folder}/{name.strip()}.py" for name in names.split("·") if name.strip()}
    return drawn


def test_every_module_is_drawn_and_every_drawn_module_exists() -> None:
    there = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    assert _modules_drawn() == there


def test_every_folder_at_the_top_is_drawn_and_exists() -> None:
    first, *rest = _layout()
    drawn = {name.rstrip("/") for name in first.split()} | {
        found[1] for line in rest if (found := re.match(r"([a-z_-]+)/", line))
    }
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    there = {Path(name).parts[0] for name in listed if (ROOT / name).exists()}
    assert drawn == there - {".gitignore", ".dockerignore"}


def test_every_folder_of_docs_and_charts_is_where_the_layout_says() -> None:
    for line in _layout():
        found = re.match(r"([a-z_-]+)/ +(.*)", line)
        for name in re.findall(r"\b([a-z-]+)/", found[2]) if found and found[1] != "pangeo_binder" else ():
            assert (ROOT / found[1] / name).is_dir(), f"{found[1]}/{name}"  # type: ignore[index]
