"""Test real environments of archives: one is built and works without git, and a refused archive leaves nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from pangeo_binder.builders.base import BuildSettings
from pangeo_binder.builders.venv.builder import VenvBuilder
from pangeo_binder.errors import BuildFailed
from pangeo_binder.model import Repo, VirtualEnvironment
from pangeo_binder.repos.swh import SwhProvider
from tests.builders.hostile import FILE, HOSTILE, SYMLINK, Maker, tarred
from tests.repos.fileserver import FileServer, file_server

__all__ = ["file_server"]
pytestmark = pytest.mark.processes

SWHID = f"swh:1:dir:{'a' * 40}"
NOTEBOOK = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


async def archived(server: FileServer, make: Maker, folder: Path) -> Repo:
    """Return what a link to Software Heritage resolves to, if its directory's tarball is what `make` makes."""
    make(folder / "tarball")
    vault = f"/api/1/vault/flat/{SWHID}/"
    server.files |= {
        "/api/1/known/": json.dumps({SWHID: {"known": True}}).encode(),
        vault: json.dumps({"status": "done", "fetch_url": f"{vault}raw/"}).encode(),
        f"{vault}raw/": (folder / "tarball").read_bytes(),
    }
    provider = SwhProvider(server.url)
    return await provider.resolve(provider.parse(SWHID))


async def test_an_archive_is_built_and_found_again(
    settings: BuildSettings, file_server: FileServer, tmp_path: Path, built
) -> None:
    members = (
        (f"{SWHID}/requirements.txt", FILE, b"toolz==0.12.1\n", ""),
        (f"{SWHID}/postBuild", FILE, b"ls > ~/listed.txt\n", ""),
        (f"{SWHID}/notebooks/sea.ipynb", FILE, NOTEBOOK, ""),
        (f"{SWHID}/first.ipynb", SYMLINK, b"", "notebooks/sea.ipynb"),
    )
    repo = await archived(file_server, tarred(*members), tmp_path)
    builder = VenvBuilder(settings)
    environment, log = await built(builder, repo)
    assert isinstance(environment, VirtualEnvironment)
    assert "Unpacked 6 files and folders" in log and "Fetching" in log
    checkout = Path(environment.checkout)
    assert (checkout / "first.ipynb").read_bytes() == NOTEBOOK and not (checkout / ".git").exists()
    assert "notebooks" in (checkout / "listed.txt").read_text()
    python = [f"{environment.prefix}/bin/python", "-c", "import toolz, jupyterlab; print(toolz.__version__)"]
    assert await asyncio.to_thread(subprocess.check_output, python, text=True) == "0.12.1\n"
    assert [path.name for path in checkout.parent.iterdir() if path.name.startswith("checkout-")] == []
    assert await VenvBuilder(settings).find(repo) == environment


async def test_a_hostile_archive_leaves_nothing_in_the_cache(
    settings: BuildSettings, file_server: FileServer, tmp_path: Path, built
) -> None:
    make, sentence = HOSTILE["tar: above"]
    with pytest.raises(BuildFailed, match=sentence):
        await built(VenvBuilder(settings), await archived(file_server, make, tmp_path))
    assert list(settings.cache_dir.glob("environments/*")) == []
    assert not any(path.name == "evil" for path in settings.cache_dir.parent.rglob("*"))
