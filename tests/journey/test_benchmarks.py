"""The benchmarks run with the current product; their results are not checked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.launch.plainhub import MISSING, PROXY
from benchmarks.launch.scenarios import PLAIN

ROOT = Path(__file__).parents[2]


def _run(*command: object) -> tuple[str, str]:
    python = [sys.executable, "-m", *map(str, command)]
    done = subprocess.run(python, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_launches_are_measured(tmp_path: Path) -> None:
    sizes = ["--launches=2", "--burst=2", "--repetitions=1", "--wedged=2", f"--json={tmp_path}/tables.json"]
    _, errors = _run("benchmarks.launch", "--only=sequential", "--only=burst", "--only=wedged", *sizes)
    tables = json.loads((tmp_path / "tables.json").read_text())["tables"]
    titles = ["One launch at a time, tier bare", "2 launches at once", "A launch behind 2 servers that never come up"]
    assert [each["title"] for each in tables] == titles
    compared = shutil.which(PROXY) is not None
    assert [PLAIN in {row["name"] for row in tables[0]["rows"]}, MISSING in errors] == [compared, not compared]
    assert all(row["max"] > 0 for row in tables[0]["rows"] if not row["name"].startswith("paired"))


def test_the_s3_front_is_measured() -> None:
    output, _ = _run("benchmarks.storage", "--mebibytes=1", "--times=2")
    assert "One object of 1 MiB" in output and "boto3, write" in output
