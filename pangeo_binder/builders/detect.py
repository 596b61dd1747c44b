"""Detect what the repository in the current directory requests, with repo2docker's own code.

Runs in its own process (`python -I -m pangeo_binder.builders.detect <default python>`), because repo2docker's
detection reads the current directory. Prints a Recipe as JSON. Never runs the repository's code.
"""

from __future__ import annotations

import resource
import sys
import tomllib
import warnings
from contextlib import suppress
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from pangeo_binder.builders.recipe import Recipe, to_json

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # repo2docker's own imports
    from repo2docker import buildpacks as packs

_JULIA = "Julia (Project.toml)"
_FOREIGN = (  # in repo2docker's order: the first build pack that matches wins
    (packs.DockerBuildPack, "a Dockerfile"),
    (packs.JuliaProjectTomlBuildPack, _JULIA),
    (packs.JuliaRequireBuildPack, "Julia (REQUIRE)"),
    (packs.NixBuildPack, "Nix (default.nix)"),
    (packs.RBuildPack, "R (runtime.txt or DESCRIPTION)"),
    (packs.CondaBuildPack, "conda (environment.yml)"),
    (packs.PipfileBuildPack, "pipenv (Pipfile)"),
)
_MEMORY_BYTES = 1 << 30
"""Memory limit of detection: a repository's file may be endless (a link to /dev/zero) or unpack to gigabytes."""
_RUNTIME_ENCODING = "The repository's runtime.txt is not plain UTF-8; save it so, without a byte order mark."
_FOREIGN_FILES = {"apt.txt": "system packages (apt.txt)", "install.R": "R (install.R)"}


def _foreign(python_pack: packs.PythonBuildPack) -> str:
    for pack, words in _FOREIGN:
        if pack(base_image="none").detect():
            return words
    for name, words in _FOREIGN_FILES.items():
        if Path(python_pack.binder_path(name)).exists():
            return words
    return ""


def _python(pack: packs.PythonBuildPack, default: str) -> str:
    """Return the version in runtime.txt, else `requires-python` if it excludes the default, else an empty string."""
    if version := pack.runtime[1]:
        return str(version) if "." in version else ""
    project = Path("pyproject.toml")
    if pack.binder_dir or not project.exists():
        return ""
    wanted = str(tomllib.loads(project.read_text()).get("project", {}).get("requires-python", ""))
    return "" if SpecifierSet(wanted).contains(f"{default}.99") else wanted


def _existing(pack: packs.PythonBuildPack, name: str) -> str:
    """Return the path of the file `name`; empty if it is absent or a link out of the repository."""
    path = Path(pack.binder_path(name))
    return str(path) if path.is_file() and path.resolve().is_relative_to(Path.cwd().resolve()) else ""


def detect(default_python: str) -> Recipe:
    """Return the recipe of the repository in the current directory."""
    if Path("binder").is_dir() and Path(".binder").is_dir():
        return Recipe(mistake="The repository has both a `binder` and a `.binder` folder; only one is allowed.")
    pack = packs.PythonBuildPack(base_image="none")
    try:
        name = pack.runtime[0]
    except UnicodeDecodeError:
        return Recipe(mistake=_RUNTIME_ENCODING)
    except ValueError:
        return Recipe(mistake="The repository's runtime.txt does not have the form `python-3.11`.")
    if name and name.startswith("\ufeff"):
        return Recipe(mistake=_RUNTIME_ENCODING)
    if foreign := _foreign(pack):
        return Recipe(foreign=foreign)
    if name not in (None, "python"):
        return Recipe(foreign=f"{name} (runtime.txt)")
    return Recipe(
        python=_python(pack, default_python),
        requirements=_existing(pack, "requirements.txt"),
        package=pack._is_python_package(),
        post_build=_existing(pack, "postBuild"),
        start=_existing(pack, "start"),
    )


def main() -> None:
    """Print the recipe."""
    with suppress(ValueError, OSError):  # macOS does not support this limit
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    try:
        recipe = detect(sys.argv[1])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, InvalidSpecifier):
        recipe = Recipe(mistake="The repository's pyproject.toml is not valid.")
    except MemoryError:
        recipe = Recipe(mistake="One of the repository's configuration files is too large.")
    except RuntimeError:  # repo2docker's legacy build pack refuses it
        recipe = Recipe(foreign="a Dockerfile based on `binder-base`, which has not been supported since 2020")
    sys.stdout.write(to_json(recipe))


if __name__ == "__main__":
    main()
