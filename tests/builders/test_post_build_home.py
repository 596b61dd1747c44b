"""The home of postBuild, of which each session gets a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangeo_binder.builders.venv.home import finish_home, post_build_env
from pangeo_binder.errors import BuildFailed


def test_the_home_is_the_checkout_and_caches_are_not_in_it(tmp_path: Path) -> None:
    checkout, venv = tmp_path / "checkout", tmp_path / "venv"
    env = post_build_env({"HOME": str(tmp_path / "home"), "PATH": "/bin"}, checkout, venv)
    assert (env["HOME"], env["PYTHONUSERBASE"]) == (str(checkout), str(venv))
    assert env["PATH"] == f"{checkout}/.local/bin:/bin"
    assert not [env[name] for name in ("PIP_CACHE_DIR", "NPM_CONFIG_CACHE") if env[name].startswith(str(checkout))]


def test_a_link_within_the_home_stays_within_its_copies(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "data").mkdir(parents=True)
    (checkout / "texts").mkdir()
    (checkout / "texts" / "data").symlink_to(checkout / "data")
    (checkout / "system").symlink_to("/usr/share")
    (checkout / "lost").symlink_to("nowhere")
    finish_home(checkout, 1 << 20)
    links = [(checkout / name).readlink() for name in ("texts/data", "system", "lost")]
    assert links == [Path("../data"), Path("/usr/share"), Path("nowhere")]


def test_a_home_of_which_copies_would_be_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    with (tmp_path / "deep" / "large").open("wb") as file:
        file.truncate(3 << 30)
    finish_home(tmp_path, 4 << 30)
    with pytest.raises(BuildFailed) as refused:
        finish_home(tmp_path, 2 << 30)
    assert "more than 2" in refused.value.message
