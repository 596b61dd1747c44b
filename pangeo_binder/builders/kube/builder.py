"""Builds environments as container images, each by one Kubernetes Job, and finds them in a registry.

An image that the registry has in place of the one that a build reported is not used.

The Job's name follows from the environment, so all binders together make one Job per environment. It belongs to none of
them: it runs on when a binder stops, and the next request follows it from its first line. A Job ends by its own time
limit, or when no binder follows it any more (`followed`), and is deleted by its own time to live. Runs in the binder;
the pod's side is `builders.pod`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Set
from contextlib import aclosing
from typing import Any, Final
from weakref import WeakValueDictionary

from ...errors import BuildFailed, PangeoBinderError
from ...events import Phase
from ...model import ContainerImage, Environment, Repo
from ...names import environment_id
from ...policy.request import RepositoryRequest
from ...policy.units import duration_text
from ...resources import resource
from ..base import Builder, BuildEvent, identity
from ..image_labels import request_of
from ..session_needs import session_digest
from .follow import POLL_SECONDS, JobFollower, RetryWindow
from .followed import FollowedJobs
from .job import KubeBuildSettings, job_manifest, job_name
from .jobs import AlreadyThere, ClusterUnavailable, Jobs, NoRoom
from .podstate import job_ended, pushed_digest
from .registry import Registry

log = logging.getLogger(__name__)

BUILDER_VERSION: Final = "kube-4"
"""Part of every environment's id: a new version makes new environments."""

_KNOWN_SECONDS: Final = 30
"""How long a found image is not looked up again: a hundred clicks of a workshop are one request."""
_REQUESTS: Final = 1000
"""How many images' labels are cached; the content of a digest never changes."""
_REPORTED: Final = 10_000
"""How many environments' digests are kept, as their builds reported them."""
_CHECKED_TAG: Final = "health"


class ImageReplaced(BuildFailed):
    """The registry has another image than the one that the environment's build pushed."""

    status, reason = 502, "image_replaced"


class KubeBuilder(Builder):
    """Makes images on a cluster; for the life of the binder."""

    health_name = "Docker registry"

    def __init__(self, settings: KubeBuildSettings, kubeconfig: str = "") -> None:
        """`kubeconfig` is a file, or empty within the cluster."""
        super().__init__(settings)
        self.settings = settings
        self._registry = Registry(settings.registry)
        self._jobs = Jobs(settings.namespace, kubeconfig)
        self.followed = FollowedJobs(self._jobs)
        self._digest = session_digest(resource("session"))
        self._known: dict[str, tuple[Environment, float]] = {}
        self._requests: dict[str, RepositoryRequest] = {}
        self._reported: dict[str, str] = {}
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def info(self) -> dict[str, str]:
        return {"build_image": self.settings.image}

    def environment_id(self, repo: Repo) -> str:
        """Return the id of the environment of `repo`, which is its image's tag; the same in every binder."""
        return environment_id(*identity(repo), BUILDER_VERSION, self.settings.base_image, self._digest)

    async def find(self, repo: Repo) -> Environment | None:
        """Return the environment of `repo` if the registry has its image, or None. Raises RegistryUnavailable.

        An image that was replaced counts as none, so that it is built again.
        """
        id_, now = self.environment_id(repo), time.monotonic()
        if id_ in self._known and self._known[id_][1] > now:
            return self._known[id_][0]
        self._known = {name: pair for name, pair in self._known.items() if pair[1] > now}
        try:
            found = await self._pushed(id_)
        except ImageReplaced:
            return None
        if found:
            self._known[id_] = (found, now + _KNOWN_SECONDS)
        return found

    async def find_request(self, environment: Environment) -> RepositoryRequest:
        """Return the repository's request, from its image's label. Raises RequestInvalid or RegistryUnavailable."""
        assert isinstance(environment, ContainerImage)
        digest = environment.reference.rpartition("@")[2]
        # one request for a class that starts together; a registry that is slow for one image delays no other
        async with self._asking.setdefault(digest, asyncio.Lock()):
            if digest not in self._requests:
                request = await asyncio.to_thread(request_of, await self._registry.labels(digest))
                self._requests = dict([*self._requests.items(), (digest, request)][-_REQUESTS:])
            return self._requests[digest]

    async def make(self, repo: Repo) -> AsyncGenerator[BuildEvent, None]:
        id_, job = self.environment_id(repo), None
        async with aclosing(self._joined(id_, repo)) as joining:
            async for step in joining:
                if isinstance(step, str):
                    yield BuildEvent(Phase.FETCHING, step)
                else:
                    job = step
        if job is not None:
            follower = JobFollower(self._jobs, job, self.settings)
            async with self.followed.following(job), aclosing(follower.events()) as events:
                async for event in events:
                    yield event
            self._keep_report(id_, follower.digest)
        environment = await self._pushed(id_)
        if environment is None:
            raise PangeoBinderError(f"The image {id_} was pushed, but the binder's registry does not have it")
        yield BuildEvent(Phase.BUILT, "Built the environment.", environment)

    async def discard(self, repo: Repo) -> None:
        """Do nothing: others may follow the Job, and it ends soon if nobody does."""

    async def check(self) -> None:
        """Raise RegistryUnavailable if the registry does not answer; whether it has this image is of no interest."""
        await self._registry.digest(_CHECKED_TAG)

    async def maintain(self, in_use: Callable[[], Awaitable[Set[str]]]) -> None:
        """Also end the Jobs that no binder follows."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(super().maintain(in_use))
            tasks.create_task(self.followed.keep_reaping())

    async def close(self) -> None:
        """Close its connections; Jobs continue."""
        await self._jobs.close()
        await self._registry.close()

    def _keep_report(self, id_: str, digest: str) -> None:
        """Remember which image a build pushed."""
        if digest:
            self._reported.pop(id_, None)
            self._reported = dict([*self._reported.items(), (id_, digest)][-_REPORTED:])
        else:
            log.warning("The build of environment %s did not report its image's digest", id_)

    async def _pushed(self, id_: str) -> Environment | None:
        """Return the environment if the registry has its image, or None. Raises RegistryUnavailable, ImageReplaced."""
        digest = await self._registry.digest(id_)
        if digest is None:
            return None
        if digest != self._reported.get(id_, digest):
            log.error("The registry's image %s is %s, but its build pushed %s", id_, digest, self._reported[id_])
            raise ImageReplaced(
                "The registry of this binder has another image than the one that was built.",
                "Tell the operator of this binder: somebody else can push to its registry.",
            )
        return ContainerImage(id_, self.settings.registry.pull_reference(digest))

    async def _completed(self, id_: str, job: Any) -> bool:
        """Return whether the registry has the image that the successful `job` pushed."""
        self._keep_report(id_, pushed_digest(await self._jobs.pod(job)))
        try:
            return await self._pushed(id_) is not None
        except ImageReplaced:
            return False

    async def _joined(self, id_: str, repo: Repo) -> AsyncGenerator[str | Any, None]:
        """Yield what the build waits for, then the Job to follow: a new one or one that runs; none if it is done.

        A Job that ended without an image is replaced. Raises BuildFailed or ClusterUnavailable.
        """
        manifest, waits = job_manifest(id_, repo, self.settings), False
        answering = RetryWindow(self.settings.retry_seconds)
        deadline = time.monotonic() + self.settings.timeout_seconds
        while time.monotonic() < deadline:
            try:
                yield await self._jobs.create(manifest)
                return
            except AlreadyThere:
                job = await self._jobs.get(job_name(id_))
                if job is not None and not job.metadata.deletion_timestamp:
                    ended = job_ended(job)
                    if ended is None and await self.followed.renew(job):
                        yield "This environment is being built already; following that build."
                        yield job
                        return
                    if ended == "Complete" and await self._completed(id_, job):
                        return
                    if ended is not None:
                        await self._jobs.delete(job)
            except NoRoom:
                if not waits:
                    yield "Waiting for other builds to end."
                waits = True
            except ClusterUnavailable as error:
                if not error.may_pass or answering.over():
                    raise
            await asyncio.sleep(POLL_SECONDS)
        waited = duration_text(int(self.settings.timeout_seconds))
        raise BuildFailed(f"There was no room for this build within {waited}.", "Open the link again later.")
