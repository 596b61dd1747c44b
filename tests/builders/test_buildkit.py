"""BuildKit of a build pod, tested without a pod: its log lines, and the errors if it is missing or cannot start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pangeo_binder.builders.pod import container
from pangeo_binder.builders.pod.buildkit import clean_progress
from pangeo_binder.errors import BuildFailed

PROGRESS = """\
#1 [internal] load build definition from Dockerfile
#1 DONE 0.0s

#5 [2/2] RUN echo before; exit 3
#5 0.055 before
#5 0.056
#5 0.057 1.5 ------
#5 ERROR: process "/bin/sh -c echo before; exit 3" did not complete successfully: exit code: 3
------
 > [2/2] RUN echo before; exit 3:
0.055 before
------
Dockerfile:2
--------------------
   2 | >>> RUN echo before; exit 3
--------------------
error: failed to solve: process "/bin/sh -c echo before; exit 3" did not complete successfully: exit code: 3
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> container.BuildKitEngine:
    """An engine that uses `tmp_path` for the pod's directories and as the first entry of PATH."""
    for name in ("HOME", "TMPDIR", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return container.BuildKitEngine(parent=None, layout=tmp_path, session=tmp_path)


def programs(folder: Path, **scripts: str) -> None:
    """Write executable shell scripts into `folder`."""
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)


def test_progress_has_the_lines_of_the_steps_without_repeats():
    lines = [line.rstrip("\n") for line in clean_progress(iter(PROGRESS.splitlines(keepends=True)))]
    assert lines[2:6] == ["[2/2] RUN echo before; exit 3", "before", "", "1.5 ------"]
    assert lines[-2].startswith("ERROR: process") and lines[-1].startswith("error: failed to solve")
    assert len(lines) == 8


def test_an_image_without_buildkit_fails_with_a_clear_message(engine, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildFailed, match="BuildKit is missing"):
        list(engine.build(path=str(tmp_path)))
    assert "has no buildkitd and no buildctl" in capfd.readouterr().out


@pytest.mark.processes
def test_a_buildkit_that_cannot_start_shows_its_log(engine, tmp_path, monkeypatch, capfd):
    daemon = "echo 'buildkitd: read-only file system' >&2; echo 'main.main' >&2; exit 1"
    programs(tmp_path, unshare='while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"', buildkitd=daemon)
    programs(tmp_path, buildctl="exit 1")
    with pytest.raises(BuildFailed, match="could not start"):
        list(engine.build(path=str(tmp_path)))
    assert capfd.readouterr().out == "buildkitd: read-only file system\n"
