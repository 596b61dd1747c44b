"""Makes git repositories from the examples, for the local profile.

The examples are plain folders in this project, but a launch needs a repository with a commit. Author, dates and message
are fixed, so the same folder always gives the same commit, and a built environment is reused.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ...resources import resource

_COMMIT_ENVIRONMENT = {
    "GIT_AUTHOR_NAME": "pangeo-binder",
    "GIT_AUTHOR_EMAIL": "examples@pangeo-binder.invalid",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "pangeo-binder",
    "GIT_COMMITTER_EMAIL": "examples@pangeo-binder.invalid",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
}


@dataclass(frozen=True, slots=True)
class ExampleRepository:
    """An example as a repository on this machine."""

    title: str
    description: str
    url: str
    urlpath: str


_EXAMPLES = (
    (
        "minimal",
        "Minimal",
        "One requirement and one notebook: the quickest way to see a launch.",
        "lab/tree/index.ipynb",
    ),
    (
        "ocean-heat",
        "Ocean heat",
        "Writes a sea-surface-temperature field to your scratch storage with your Dask cluster, and finds its trend.",
        "lab/tree/ocean_heat.ipynb",
    ),
)


def example_repositories(folder: Path) -> tuple[ExampleRepository, ...]:
    """Return the example repositories that `make_repositories` creates below `folder`."""
    return tuple(
        ExampleRepository(title, description, (folder / name).as_uri(), urlpath)
        for name, title, description, urlpath in _EXAMPLES
    )


def make_repositories(folder: Path) -> None:
    """Create a repository for each example below `folder`, and replace existing ones."""
    for name, *_ in _EXAMPLES:
        target = folder / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(resource("examples") / name, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        for command in (["init", "-q", "-b", "main"], ["add", "--all"], ["commit", "-q", "-m", "Example"]):
            subprocess.run(["git", *command], cwd=target, env=_COMMIT_ENVIRONMENT, check=True, capture_output=True)
