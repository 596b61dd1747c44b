"""Says what the repository in the current directory asks for, in repo2docker's own opinion.

Runs as a process of its own (`python -I -m pangeo_binder.builders.detect <default python>`), because repo2docker's
detection works on the current directory; prints a Recipe as JSON. Runs nothing of the repository.
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
_FOREIGN = (  # in repo2docker's order: the first that detects builds
    (packs.DockerBuildPack, "a Dockerfile"),
    (packs.JuliaProjectTomlBuildPack, _JULIA),
    (packs.JuliaRequireBuildPack, "Julia (REQUIRE)"),
    (packs.NixBuildPack, "Nix (default.nix)"),
    (packs.RBuildPack, "R (runtime.txt or DESCRIPTION)"),
    (packs.CondaBuildPack, "conda (environment.yml)"),
    (packs.PipfileBuildPack, "pipenv (Pipfile)"),
)
_MEMORY_BYTES = 1 << 30
"""What detection may take: a file of the repository may be endless (a link to /dev/zero) or unpack to gigabytes."""
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
    """Return the Python asked for: runtime.txt's, else pyproject's where it excludes the default, else nothing."""
    if version := pack.runtime[1]:
        return str(version) if "." in version else ""
    project = Path("pyproject.toml")
    if pack.binder_dir or not project.exists():
        return ""
    wanted = str(tomllib.loads(project.read_text()).get("project", {}).get("requires-python", ""))
    return "" if SpecifierSet(wanted).contains(f"{default}.99") else wanted


def _existing(pack: packs.PythonBuildPack, name: str) -> str:
    """Return the path of the file `name`, unless it is a link out of the repository."""
    path = Path(pack.binder_path(name))
    return str(path) if path.is_file() and path.resolve().is_relative_to(Path.cwd().resolve()) else ""


def detect(default_python: str) -> Recipe:
    """Return the recipe of the repository in the current directory."""
    if Path("binder").is_dir() and Path(".binder").is_dir():
        return Recipe(mistake="The repository has both a `binder` and a `.binder` folder; only one may be there.")
    pack = packs.PythonBuildPack(base_image="none")
    try:
        name = pack.runtime[0]
    except ValueError:
        return Recipe(mistake="The repository's runtime.txt is not of the form `python-3.11`.")
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
    with suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    try:
        recipe = detect(sys.argv[1])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, InvalidSpecifier):
        recipe = Recipe(mistake="The repository's pyproject.toml cannot be read: it is not valid.")
    except MemoryError:
        recipe = Recipe(mistake="One of the repository's files that say what it needs is far too large.")
    except RuntimeError:  # the legacy pack's refusal
        recipe = Recipe(foreign="a Dockerfile based on `binder-base`, which nothing builds since 2020")
    sys.stdout.write(to_json(recipe))


if __name__ == "__main__":
    main()
