"""What a repository requests from its build. `detect` writes it and the virtual environment builder reads it.

Pure. The meaning of each file follows repo2docker: https://repo2docker.readthedocs.io/en/latest/configuration/
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ..errors import BuildFailed

_VERSION_CHARACTERS = 100
_CORRECT = "Correct it in the repository, then open the link again."
UNDERSTOOD = "it builds Python environments from requirements.txt, pyproject.toml or setup.py"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make one repository's environment; paths are relative to the repository and empty if absent."""

    foreign: str = ""
    """A requirement that a virtual environment cannot meet, worded to follow "needs"."""
    mistake: str = ""
    """A sentence that describes an error in the repository's files."""
    python: str = ""
    """A version (`3.11`) or a version specifier (`>=3.12`); empty for the binder's own Python."""
    requirements: str = ""
    package: bool = False
    """Whether the repository itself is installed."""
    post_build: str = ""
    start: str = ""


def to_json(recipe: Recipe) -> str:
    """Return `recipe` as text that `from_json` reads."""
    return json.dumps(asdict(recipe))


def from_json(text: str) -> Recipe:
    """Return the recipe that `to_json` wrote."""
    return Recipe(**json.loads(text))


def check(recipe: Recipe) -> None:
    """Raise BuildFailed if this builder cannot follow the recipe."""
    if len(recipe.python) > _VERSION_CHARACTERS:
        raise BuildFailed("The repository's request for a Python version is too long.", _CORRECT)
    if recipe.mistake:
        raise BuildFailed(recipe.mistake, _CORRECT)
    if recipe.foreign:
        raise BuildFailed(
            f"This repository needs {recipe.foreign}, which this binder cannot build: {UNDERSTOOD}.",
            "List its Python packages in requirements.txt (or binder/requirements.txt) instead, or use a binder that"
            " builds containers, such as mybinder.org.",
        )
