"""What a repository asks for, as plain facts: what `detect` writes and the virtual environment builder reads.

Pure. Which files mean what is repo2docker's rule: https://repo2docker.readthedocs.io/en/latest/configuration/
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ..errors import BuildFailed

UNDERSTOOD = "it builds Python environments from requirements.txt, pyproject.toml or setup.py"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one repository wants its environment made; paths are relative to the repository, empty for none."""

    foreign: str = ""
    """What it needs that a virtual environment cannot hold, in words that follow "needs"."""
    mistake: str = ""
    """A sentence saying what is wrong with its files."""
    python: str = ""
    """A version (`3.11`) or versions (`>=3.12`); empty for the binder's own."""
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
    """Raise BuildFailed where the recipe cannot be followed."""
    if recipe.mistake:
        raise BuildFailed(recipe.mistake, "Mend it in the repository and open the link again.")
    if recipe.foreign:
        raise BuildFailed(
            f"This repository needs {recipe.foreign}, which this binder cannot build: {UNDERSTOOD}.",
            "List its Python packages in requirements.txt (or binder/requirements.txt) instead, or use a binder with"
            " containers, such as mybinder.org.",
        )
