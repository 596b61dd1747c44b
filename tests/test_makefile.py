"""The Makefile takes the Python there is, or says which it wants."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parent.parent / "Makefile"
MAKE = shutil.which("make") or "make"


def make(folder: Path, *pythons: str, arguments: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Make the virtual environment where no other Python is on PATH; each only says how it was called."""
    programs = folder / "bin"
    programs.mkdir()
    shutil.copy(MAKEFILE, folder)
    for name in pythons:
        (programs / name).write_text('#!/bin/sh\necho "called: ${0##*/} $*"\nexit 1\n')
        (programs / name).chmod(0o755)
    command, env = [MAKE, *arguments, ".venv/uv"], {"PATH": str(programs)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (("python3.11", "python3.12", "python3.13"), "python3.11"),
        (("python3.13", "python3.12"), "python3.12"),
        (("python3.10", "python3.13", "python3"), "python3.13"),
    ],
)
def test_the_first_python_that_fits_is_taken(tmp_path: Path, there: tuple[str, ...], taken: str) -> None:
    assert f"called: {taken} -m venv .venv\n" in make(tmp_path, *there).stdout


def test_without_one_it_says_so_in_a_sentence(tmp_path: Path) -> None:
    done = make(tmp_path, "python3", "python3.10")
    assert done.returncode and "called" not in done.stdout
    assert done.stderr.startswith("There is no python3.11, python3.12 or python3.13 on PATH; install one")


def test_a_python_that_is_named_is_taken(tmp_path: Path) -> None:
    assert "called: mine -m venv" in make(tmp_path, "mine", "python3.11", arguments=("PYTHON=mine",)).stdout
