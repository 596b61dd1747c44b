"""A binder process without pages and git: `python -m tests.launch.replica HUB POLICY SETTINGS`, one click a line.

Each line of its input is `[repository, network]`. It prints a word for each step: `seated` if a click is admitted, and
how it ended: `ready`, or the reason of the refusal. It serves until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pangeo_binder.builders.base import Builder, BuildEvent, BuildSettings
from pangeo_binder.errors import UserError
from pangeo_binder.events import Phase
from pangeo_binder.launch import admission as module
from pangeo_binder.launch.admission import Admission
from pangeo_binder.launch.builds import SharedBuilds
from pangeo_binder.launch.hub import Hub
from pangeo_binder.launch.pipeline import Collaborators, Pipeline
from pangeo_binder.launch.queue import Queue
from pangeo_binder.model import Click, Environment, Repo, RepoRef, VirtualEnvironment
from pangeo_binder.policy.load import load_policy
from pangeo_binder.repos.base import Provenance
from pangeo_binder.repos.git import GitProvider
from tests.launch.replicahub import KEY, TOKEN


class NoGit(GitProvider):
    """Knows the one commit of every repository."""

    async def find_revision(self, ref: RepoRef) -> str:
        return "a" * 40

    def known_provenance(self, repo: Repo) -> Provenance:
        return Provenance()


class Waits(Builder):
    """Builds for as long as it is set, or until a file appears."""

    def __init__(self, seconds: float, gate: Path) -> None:
        super().__init__(BuildSettings(gate.parent, min_free_bytes=0))
        self._seconds, self._gate = seconds, gate
        self._made: set[str] = set()

    async def find(self, repo: Repo) -> Environment | None:
        return VirtualEnvironment("e1", "/nowhere", "/nowhere/checkout") if repo.ref.url in self._made else None

    async def make(self, repo: Repo) -> AsyncGenerator[BuildEvent, None]:
        yield BuildEvent(Phase.BUILDING, "Waiting")
        await asyncio.sleep(self._seconds)
        while self._seconds and not self._gate.exists():  # noqa: ASYNC110 (another process makes it)
            await asyncio.sleep(0.1)
        self._made.add(repo.ref.url)
        yield BuildEvent(Phase.BUILT, "Built", await self.find(repo))

    async def discard(self, repo: Repo) -> None:
        """Leave nothing, since nothing was made."""


async def launch(pipeline: Pipeline, url: str, network: str) -> None:
    """Follow one click to its end."""
    click = Click("git", f"{quote(url, safe='')}/main", network, "http://127.0.0.1/")
    try:
        async with aclosing(pipeline.run(click)) as events:
            async for event in events:
                if event.phase is Phase.READY or (event.grant and event.phase is Phase.WAITING):
                    print("ready" if event.phase is Phase.READY else "seated", flush=True)
    except UserError as error:
        print(error.reason, flush=True)


async def main(api: str, policy: str, settings: dict[str, Any]) -> None:
    module.RENEW_SECONDS = settings.get("renew", module.RENEW_SECONDS)
    hub = Hub(api, TOKEN, [KEY])
    admission = Admission(load_policy(Path(policy)), hub, Queue(settings.get("queue", 0)))
    builds = SharedBuilds(Waits(settings.get("build", 0), Path(policy).parent / "gate"))
    pipeline = Pipeline(Collaborators((NoGit(),), admission, builds, hub, [KEY]))
    await admission._renew()
    admission.start()
    print("ready?", flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    tasks = set()
    async for line in lines:
        tasks.add(asyncio.create_task(launch(pipeline, *json.loads(line))))
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
