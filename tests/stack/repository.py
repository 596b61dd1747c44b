"""Small git repositories for tests to launch."""

from __future__ import annotations

import subprocess
from pathlib import Path

_COMMIT_OPTIONS = ["-c", "user.name=tests", "-c", "user.email=tests@example.invalid", "-c", "commit.gpgsign=false"]


def repository(folder: Path, files: dict[str, str], executable: tuple[str, ...] = ()) -> str:
    """Create a repository with `files` in one commit and return its address."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if name in executable:
            path.chmod(0o755)
    for command in (["init", "-q", "-b", "main"], ["add", "--all"], ["commit", "-q", "-m", "Test"]):
        subprocess.run(["git", *_COMMIT_OPTIONS, *command], cwd=folder, check=True, capture_output=True)
    return folder.as_uri()
