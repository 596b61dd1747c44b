"""Test what detection reads from a repository's files, and which files it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangeo_binder.builders.detect import detect
from pangeo_binder.builders.recipe import Recipe, check, from_json, to_json
from pangeo_binder.errors import BuildFailed

PACKAGE = "[project]\nname = 'sea'\nversion = '1'\n[build-system]\nrequires = ['hatchling']\n"


@pytest.fixture
def recipe_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def recipe(files: dict[str, str]) -> Recipe:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        monkeypatch.chdir(tmp_path)
        return detect("3.11")

    return recipe


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, Recipe()),
        ({"requirements.txt": "numpy"}, Recipe(requirements="requirements.txt")),
        ({"binder/requirements.txt": "a", "requirements.txt": "b"}, Recipe(requirements="binder/requirements.txt")),
        ({".binder/postBuild": "", "setup.py": ""}, Recipe(post_build=".binder/postBuild")),
        ({"setup.py": ""}, Recipe(package=True)),
        ({"pyproject.toml": PACKAGE, "requirements.txt": ""}, Recipe(requirements="requirements.txt", package=True)),
        ({"pyproject.toml": "[tool.ruff]\n"}, Recipe()),
        (
            {"pyproject.toml": PACKAGE.replace("version", "requires-python = '>=3.12'\nversion")},
            Recipe(python=">=3.12", package=True),
        ),
        ({"pyproject.toml": PACKAGE.replace("version", "requires-python = '>=3.9'\nversion")}, Recipe(package=True)),
        ({"runtime.txt": "python-3.12"}, Recipe(python="3.12")),
        ({"runtime.txt": "python-3"}, Recipe()),
        ({"start": "#!/bin/sh"}, Recipe(start="start")),
    ],
)
def test_follows_repo2dockers_rules(recipe_of, files, wanted):
    recipe = recipe_of(files)
    assert recipe == wanted == from_json(to_json(recipe))
    check(recipe)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["Dockerfile"], "needs a Dockerfile, which this binder cannot build"),
        (["binder/Dockerfile"], "a Dockerfile"),
        (["environment.yml"], "conda (environment.yml)"),
        (["environment.yaml"], "conda (environment.yml)"),
        (["environment.yml", "requirements.txt"], "conda (environment.yml)"),
        (["apt.txt", "requirements.txt"], "system packages (apt.txt)"),
        (["install.R"], "R (install.R)"),
        (["DESCRIPTION"], "R (runtime.txt or DESCRIPTION)"),
        (["Project.toml"], "Julia (Project.toml)"),
        (["REQUIRE"], "Julia (REQUIRE)"),
        (["Pipfile"], "pipenv (Pipfile)"),
        (["Pipfile.lock"], "pipenv (Pipfile)"),
        (["default.nix"], "Nix (default.nix)"),
    ],
)
def test_refuses_and_names_files_that_need_more_than_python(recipe_of, files, words):
    recipe = recipe_of(dict.fromkeys(files, ""))
    with pytest.raises(BuildFailed) as caught:
        check(recipe)
    assert words in caught.value.message
    assert "it builds Python environments from requirements.txt, pyproject.toml or setup.py" in caught.value.message


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"binder/a": "", ".binder/b": ""}, "both a `binder` and a `.binder` folder"),
        ({"runtime.txt": "3.11"}, "does not have the form `python-3.11`"),
        ({"runtime.txt": "r-4.1-2023-01-01"}, "needs R (runtime.txt"),
        ({"runtime.txt": "node-20"}, "needs node (runtime.txt)"),
    ],
)
def test_refuses_mistakes_with_a_clear_message(recipe_of, files, words):
    with pytest.raises(BuildFailed) as caught:
        check(recipe_of(files))
    assert words in caught.value.message


def test_does_not_follow_a_link_out_of_the_repository(recipe_of, tmp_path):
    (tmp_path / "postBuild").symlink_to("/bin/true")
    assert recipe_of({}) == Recipe()
