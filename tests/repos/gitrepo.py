"""Real git repositories for tests."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


def git(*args: str, cwd: Path) -> str:
    """Run git with an author and without this machine's settings; return its output."""
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


@dataclass(frozen=True, slots=True)
class Parent:
    """A repository as a forge stores it: it also holds and serves the commits that forks and pull requests pushed."""

    path: Path
    tip: str
    """The branch main's commit."""
    old: str
    """The commit before, also on the branch."""
    tagged: str
    """The parent of the commit that the annotated tag v1 names; neither is on a branch."""
    foreign: str
    """A commit of a fork, named by an open pull request (`refs/pull/1/head`); pull request 2 (`old`) was merged."""


def make_parent(path: Path, filters: bool = True) -> Parent:
    """Make a bare repository at `path` with the commits of a Parent; if it `filters`, it can leave files out."""
    work = make_repository(path.with_name(f"{path.name}-work"), {"readme.md": "parent\n"})

    def commit(name: str) -> str:
        (work / name).write_text(name)
        git("add", ".", cwd=work)
        git("commit", "-q", "-m", name, cwd=work)
        return git("rev-parse", "HEAD", cwd=work)

    old, tip = commit("old"), commit("new")
    git("checkout", "-q", "--detach", cwd=work)
    tagged = commit("tagged")
    commit("released")
    git("tag", "-a", "v1", "-m", "annotated", cwd=work)
    git("checkout", "-q", "--detach", "main", cwd=work)
    foreign = commit("miner")
    for number, pulled in enumerate((foreign, old), 1):
        git("update-ref", f"refs/pull/{number}/head", pulled, cwd=work)
    git("checkout", "-q", "main", cwd=work)
    git("clone", "-q", "--mirror", str(work), str(path), cwd=work)
    git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=path)
    git("config", "uploadpack.allowFilter", str(filters).lower(), cwd=path)
    return Parent(path, tip, old, tagged, foreign)
