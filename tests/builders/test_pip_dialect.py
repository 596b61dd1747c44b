"""Test real builds of what pip takes and uv reads differently, and scripts that cannot run."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pangeo_binder.builders.base import Builder, BuildSettings
from pangeo_binder.builders.venv.builder import VenvBuilder
from pangeo_binder.builders.venv.pythons import find_python
from pangeo_binder.builders.venv.scripts import check_scripts
from pangeo_binder.builders.venv.variables import build_env
from pangeo_binder.errors import BuildFailed
from pangeo_binder.model import Environment, Repo, RepoRef
from tests.repos.gitrepo import git, make_repository

HASHES = (
    "--hash=sha256:2059bd4148deb1884bb0eb770a3cde70e7f954cfbbdc2285f1f2de01fd21eb6f",
    "--hash=sha256:88c570861c440ee3f2f6037c4654613228ff40c93a6c25e0eba70d17282c6194",
)
"""The files of toolz 0.12.0."""
PROJECT = """
[project]
name = "fieldlib"
version = "1.2"
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
"""
Built = Callable[[Builder, Repo], Awaitable[tuple[Environment, str]]]
RepoOf = Callable[[dict[str, str]], Repo]


def with_bytes(repo: Repo, **files: bytes) -> Repo:
    """Return `repo` with a commit of more files; the first `_` of a name is its dot."""
    folder = Path(repo.ref.url)
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_bytes(content)
    git("add", ".", cwd=folder)
    git("commit", "-q", "-m", "files", cwd=folder)
    return Repo(RepoRef("git", repo.ref.url, "main"), git("rev-parse", "HEAD", cwd=folder))


def versions(environment: Environment, *names: str) -> list[str]:
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    prefix = environment.prefix  # type: ignore[union-attr]
    return subprocess.run(
        [f"{prefix}/bin/python", "-c", code, *names], check=True, capture_output=True, text=True
    ).stdout.split()


async def refusal(settings: BuildSettings, repo: Repo) -> BuildFailed:
    with pytest.raises(BuildFailed) as caught:
        async for _ in VenvBuilder(settings).build(repo):
            pass
    return caught.value


@pytest.mark.processes
async def test_a_complete_file_of_hashes_is_installed_as_it_stands(
    settings: BuildSettings, repo_of: RepoOf, built: Built
) -> None:
    text = f"--require-hashes\ntoolz==0.12.0 \\\n    {HASHES[0]} \\\n    {HASHES[1]}\n"
    environment, log = await built(VenvBuilder(settings), repo_of({"requirements.txt": text}))
    assert versions(environment, "toolz") == ["0.12.0"]
    assert len(versions(environment, "distributed", "jupyterlab", "pangeo-binder-session")) == 3
    assert log.count("Resolved") == 2


@pytest.mark.processes
async def test_a_file_as_powershell_and_pip_freeze_write_it(
    settings: BuildSettings, repo_of: RepoOf, built: Built, tmp_path: Path
) -> None:
    library = make_repository(tmp_path / "library", {"pyproject.toml": PROJECT, "fieldlib/__init__.py": ""})
    git("tag", "v1.2", cwd=library)
    text = f"toolz==0.12.0\r\n-e git+{library.as_uri()}@v1.2#egg=fieldlib\r\n"
    missing = f"python-{platform.python_version_tuple()[0]}.{platform.python_version_tuple()[1]}.99\r\n"
    repo = with_bytes(repo_of({}), requirements_txt=text.encode("utf-16"), runtime_txt=missing.encode())
    environment, log = await built(VenvBuilder(settings), repo)
    assert versions(environment, "toolz", "fieldlib") == ["0.12.0", "1.2"]
    assert "requirements.txt, line 2: installed, but not as editable" in log
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"Python {own}.99 is not installed on this binder; using its Python {own}." in log


@pytest.mark.processes
@pytest.mark.parametrize(
    ("requirements", "message", "hint"),
    [
        ("toolz\n\ntoolz==\n", "not a valid requirement.", "It is line 3: `toolz==`."),
        ("numpy\ntoolz==99.0\n", "no version that matches `toolz==99.0`.", "See requirements.txt, line 2."),
        (
            f"--require-hashes\ntoolz==0.12.0 --hash=sha256:{'0' * 64}\n",
            "hash of `toolz==0.12.0`",
            "See requirements.txt",
        ),
        (
            f"partd==1.4.0 --hash=sha256:{'0' * 64}\n--require-hashes",
            "have hashes, but not for `locket`",
            "pip-compile",
        ),
        ("pywin32==306\n", "`pywin32` exists only for Windows.", 'pywin32; sys_platform == "win32"'),
        (
            "certifi @ file:///croot/certifi/work",
            "requirements.txt, line 1: `certifi @ file:",
            "Write certifi==<version>",
        ),
    ],
)
async def test_a_refusal_names_the_line(
    settings: BuildSettings, repo_of: RepoOf, requirements: str, message: str, hint: str
) -> None:
    error = await refusal(settings, repo_of({"requirements.txt": requirements}))
    assert message in error.message and hint in error.hint


@pytest.mark.processes
@pytest.mark.parametrize("name", ["start", "postBuild"])
async def test_windows_line_ends_are_found_before_installing(
    settings: BuildSettings, repo_of: RepoOf, name: str
) -> None:
    repo = with_bytes(repo_of({}), **{name: b'#!/bin/bash\r\nexec "$@"\r\n'})
    builder, lines = VenvBuilder(settings), []
    with pytest.raises(BuildFailed, match=f"repository's {name} has Windows line ends") as caught:
        async for event in builder.build(repo):
            lines.append(event.line)
    assert "dos2unix" in caught.value.hint and "Installing" not in "".join(lines)


@pytest.mark.processes
async def test_a_python_is_found_by_its_patch_release_or_else_its_minor_version(
    settings: BuildSettings, tmp_path: Path
) -> None:
    env = build_env(Repo(RepoRef("git", str(tmp_path), "main"), "a" * 40), tmp_path, settings)
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert (await find_python(platform.python_version(), settings, env)).note == ""
    assert "using its Python" in (await find_python(f"{own}.99", settings, env)).note
    with pytest.raises(BuildFailed, match=r"requests Python 3\.5\.1, which is not installed"):
        await find_python("3.5.1", settings, env)


@pytest.mark.parametrize(
    "text",
    [
        b"#!/bin/sh\r\necho\r\n",
        b"echo one\necho two\r\n",
        b"#!/usr/bin/env bash\necho\r\n",
        b"#!/usr/bin/env python3\r\nprint()\r\n",
        b"#!/nowhere/at/all\n",
    ],
)
def test_a_script_that_cannot_run_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "postBuild").write_bytes(text)
    with pytest.raises(BuildFailed, match="The repository's postBuild"):
        check_scripts(tmp_path, "postBuild", "")


@pytest.mark.parametrize(
    "text", [b"", b"#!", b"#! \n", b"echo\n", b"#!/bin/sh\necho", b"#!/usr/bin/env python3\nprint()\r\n", b"\xff\x00\n"]
)
def test_a_script_that_runs_here_or_fails_by_itself_is_taken(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "postBuild").write_bytes(text)
    check_scripts(tmp_path, "postBuild")
