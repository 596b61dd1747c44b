"""Test previews of notebooks: only of builds, within limits, and without anything that a browser would run or load."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pangeo_binder.git import GitAccess
from pangeo_binder.launch.builds import SharedBuilds
from pangeo_binder.launch.notebook_html import to_html
from pangeo_binder.launch.preview import NoPreview, PreviewLimits, Previews
from pangeo_binder.model import Repo, RepoRef
from tests.launch.conftest import QuickBuilder
from tests.repos.gitrepo import git, make_repository
from tests.repos.gitserver import unresponsive_server

__all__ = ["unresponsive_server"]

ACCESS = GitAccess(allow_local=True)


def cell(kind: str, source: str, **more: Any) -> dict[str, Any]:
    code = {"execution_count": 1, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {}, "source": source, **code, **more}


def notebook(*cells: dict[str, Any]) -> str:
    return json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 4})


def output(**data: str) -> list[dict[str, Any]]:
    media = {name.replace("_", "/"): text for name, text in data.items()}
    return [{"output_type": "display_data", "metadata": {}, "data": media}]


SEA = notebook(
    cell("markdown", "# The sea\n[xarray](https://docs.example.org/)"),
    cell("code", "1 + 1", outputs=output(text_plain="2")),
    cell("code", "plot()", outputs=output(image_png="iVBORw0KGgo=")),
)
FILES = {
    "sea ice/köppen.ipynb": SEA,
    "large.ipynb": notebook(cell("markdown", "x" * 200_000)),
    "long.ipynb": notebook(*[cell("markdown", "a *b* " * 200)] * 30),
    "text.ipynb": "not a notebook",
    "list.ipynb": "[1]",
}


@asynccontextmanager
async def building(builds: SharedBuilds, builder: QuickBuilder, repo: Repo) -> AsyncIterator[None]:
    """Build `repo` as long as the block runs."""
    builder.go_on.clear()
    following = builds.follow(repo)
    await anext(following)
    try:
        yield
    finally:
        builder.go_on.set()
        async for _ in following:
            pass


@pytest.fixture
def sea(tmp_path: Path) -> Repo:
    path = make_repository(tmp_path / "sea", FILES)
    return Repo(RepoRef("git", str(path), "main"), git("rev-parse", "HEAD", cwd=path))


@pytest.mark.processes
async def test_a_notebook_of_a_build_is_shown(sea: Repo, builds: SharedBuilds, builder: QuickBuilder) -> None:
    previews = Previews(builds, ACCESS)
    path = "sea ice/köppen.ipynb"
    async with building(builds, builder, sea):
        pages = await asyncio.gather(*[previews.notebook(sea.ref, path) for _ in range(30)])
    assert set(pages) == {pages[0]}
    for part in ("The sea", 'src="data:image/png;base64,iVBORw0KGgo="', 'rel="noopener noreferrer nofollow"'):
        assert part in pages[0]
    with pytest.raises(NoPreview, match="no build of this repository"):
        await previews.notebook(sea.ref, path)


@pytest.mark.processes
@pytest.mark.parametrize(
    "path",
    ["missing.ipynb", "../sea/text.ipynb", "text.ipynb", "list.ipynb", "large.ipynb", "long.ipynb", "--help", ""],
)
async def test_a_file_without_a_preview(
    sea: Repo, builds: SharedBuilds, builder: QuickBuilder, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    previews = Previews(builds, ACCESS, PreviewLimits(notebook_bytes=100_000, html_bytes=20_000))
    async with building(builds, builder, sea):
        with pytest.raises(NoPreview, match="There is no preview of"):
            await previews.notebook(sea.ref, path)
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.processes
async def test_a_host_with_partial_clones_sends_only_the_notebook(
    builds: SharedBuilds, builder: QuickBuilder, git_server: str, tmp_path: Path
) -> None:
    work = make_repository(tmp_path / "work", {"a.ipynb": SEA, "data.txt": random.Random(1).randbytes(2**19).hex()})
    git("clone", "-q", "--mirror", str(work), str(tmp_path / "sea"), cwd=tmp_path)
    for setting in ("allowFilter", "allowAnySHA1InWant"):
        git("config", f"uploadpack.{setting}", "true", cwd=tmp_path / "sea")
    repo = Repo(RepoRef("git", f"{git_server}/git/sea", "main"), git("rev-parse", "HEAD", cwd=work))
    async with building(builds, builder, repo):
        previews = Previews(builds, ACCESS, PreviewLimits(fetched_bytes=2**18))
        assert "The sea" in await previews.notebook(repo.ref, "a.ipynb")
        git("config", "uploadpack.allowFilter", "false", cwd=tmp_path / "sea")
        with pytest.raises(NoPreview):
            await Previews(builds, ACCESS, PreviewLimits(fetched_bytes=2**18)).notebook(repo.ref, "a.ipynb")


@pytest.mark.processes
async def test_closing_ends_the_processes_of_a_preview(
    sea: Repo, builds: SharedBuilds, builder: QuickBuilder, unresponsive_server: str
) -> None:
    away = replace(sea, ref=replace(sea.ref, url=f"{unresponsive_server}/sea"))
    previews = Previews(builds, ACCESS)
    async with building(builds, builder, away):
        asked = asyncio.create_task(previews.notebook(away.ref, "a.ipynb"))
        started: list[psutil.Process] = []
        for _ in range(400):
            started = started or [each for each in psutil.Process().children() if "fetch" in each.cmdline()]
            await asyncio.sleep(0 if started else 0.05)
        assert started
        await previews.close()
        with pytest.raises(asyncio.CancelledError):
            await asked
    assert not [each for each in started if each.is_running()]


@pytest.mark.processes
async def test_a_fetch_and_a_cache_stay_within_their_limits(
    sea: Repo, builds: SharedBuilds, builder: QuickBuilder
) -> None:
    path = "sea ice/köppen.ipynb"
    async with building(builds, builder, sea):
        with pytest.raises(NoPreview):
            await Previews(builds, ACCESS, PreviewLimits(fetched_bytes=512)).notebook(sea.ref, path)
        with pytest.raises(NoPreview, match="too many previews"):
            await Previews(builds, ACCESS, PreviewLimits(waiting=0)).notebook(sea.ref, path)
        small = Previews(builds, ACCESS, PreviewLimits(cached_bytes=100))
        assert "The sea" in await small.notebook(sea.ref, path)
        assert "The sea" in await small.notebook(sea.ref, path)


HOSTILE = [
    cell("markdown", "<script>alert(1)</script>safe"),
    cell("markdown", "<img src=x onerror=alert(1)>safe"),
    cell("markdown", "[safe](javascript:alert(1)) ![safe](https://tracker.example/a.png)"),
    cell("markdown", '<a href="data:text/html,<script>alert(1)</script>">safe</a>'),
    cell("markdown", "<iframe src='/'></iframe><form action='/x'><input></form><style>*{}</style>safe"),
    cell("markdown", '<div style="position:fixed" id="main" onclick="x()">safe</div><base href="//evil.example">'),
    cell("markdown", "<svg><script>alert(1)</script></svg><math><mtext><script>x</script></mtext></math>safe"),
    cell("raw", "<script>alert(1)</script>safe", metadata={"format": "text/html"}),
    cell("code", "'</pre><script>alert(1)</script>safe'"),
    cell("code", "x", outputs=output(text_html="<script>alert(1)</script><b onmouseover=alert(1)>safe</b>")),
    cell("code", "x", outputs=output(image_svg="<svg onload=alert(1)></svg>", text_plain="safe")),
    cell("code", "x", outputs=output(application_javascript="alert(1)", text_plain="safe")),
    cell(
        "code",
        "x",
        outputs=output(image_png='"><script>alert(1)</script>', text_plain="safe"),
        metadata={"tags": ["safe"]},
    ),
]
UNSAFE = ("<script", "onerror=", "onload=", "onclick=", "onmouseover=", 'href="javascript', "tracker", 'href="data:')
UNSAFE += ("<iframe", "<form", "<input", "<style", "style=", "<base", "<svg", "<math", "id=")


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: str(HOSTILE.index(hostile)))
def test_a_preview_has_nothing_that_a_browser_would_run_or_load(hostile: dict[str, Any]) -> None:
    page = to_html(notebook(hostile))
    assert not [part for part in UNSAFE if part in page.replace("&lt;script", "").replace("&lt;", "")]
    assert "safe" in page or hostile["cell_type"] == "code"
