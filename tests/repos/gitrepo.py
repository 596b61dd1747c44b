"""Makes real git repositories for tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def git(*args: str, cwd: Path) -> str:
    """Run git with an author and without this machine's settings, and return what it printed."""
    author = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd), "GIT_CONFIG_NOSYSTEM": "1", **author}
    done = subprocess.run(["git", *args], cwd=cwd, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def make_repository(path: Path, files: dict[str, str]) -> Path:
    """Make a repository at `path` whose one commit holds `files`; those named postBuild and start are executable."""
    path.mkdir(parents=True)
    git("init", "-q", "-b", "main", cwd=path)
    for name, text in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755 if file.name in ("postBuild", "start") else 0o644)
    git("add", ".", cwd=path)
    git("commit", "-q", "--allow-empty", "-m", "first", cwd=path)
    return path
