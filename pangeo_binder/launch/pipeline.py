"""The journey of a launch, in order: resolve, admit, build, issue the ticket, start, ready.

Each step yields events; a step that refuses raises a UserError, which `web` turns into the last event. If the client
leaves, the journey ends: a build continues for others, and else ends soon; a server that is still starting is stopped.
Runs in the binder.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from .. import metrics, trace
from ..errors import LoginNeeded, NotAllowed, PangeoBinderError, RefNotFound, UserError
from ..events import Event, Phase
from ..model import Click, Environment, Launch, Repo, RepoRef, server_address
from ..policy.match import Question
from ..policy.request import narrow
from ..repos.base import Provenance, Provider
from ..repos.registry import provider_for
from ..ticket import server_token, sign
from .admission import Admission, Seat, repository_key
from .builds import SharedBuilds
from .hub import Hub
from .lookups import SharedLookups
from .stages import Stages, measured_admission, measured_start
from .turns import Asker

log = logging.getLogger(__name__)

_END_SECONDS = 5
"""How long a binder that stops waits until the hub has stopped the servers of launches that it ended."""
_FORMER_DEFAULTS = ("master", "main")
"""Names that default branches had or have; as on mybinder.org, a link with one means the default branch."""


@dataclass(frozen=True, slots=True)
class Collaborators:
    """The parts of the binder that a launch needs."""

    providers: tuple[Provider, ...]
    admission: Admission
    builds: SharedBuilds
    hub: Hub
    ticket_keys: list[str]
    logins: bool = False
    """Whether people can sign in."""


class Pipeline:
    """Runs launches; one instance for the life of the binder."""

    def __init__(self, collaborators: Collaborators) -> None:
        self._with = collaborators
        self._lookups = SharedLookups()
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self, click: Click) -> AsyncGenerator[Event, None]:
        """Yield the events of a launch, the last one READY. Raises the UserError of the step that refuses.

        A generator that is closed at READY stops the server: nobody has got its token.
        """
        outcome = "left"
        metrics.LAUNCHES_IN_PROGRESS.inc()
        try:
            async with aclosing(self._journey(click)) as journey:
                async for event in journey:
                    yield event
                    outcome = _outcome(event)
        except UserError as error:
            outcome = error.reason
            raise
        except Exception:
            outcome = "internal_error"
            raise
        finally:
            metrics.LAUNCHES_IN_PROGRESS.dec()
            metrics.LAUNCHES.labels(outcome).inc()

    async def close(self) -> None:
        """Wait, within a bound, until the servers of ended launches are stopped; the culler ends the others."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=_END_SECONDS)

    async def prebuild(self, ref: RepoRef) -> None:
        """Build the environment of `ref` before anybody launches it; a failure is logged."""
        try:
            repo = await provider_for(self._with.providers, ref.provider).resolve(ref)
            async with aclosing(self._with.builds.follow(repo)) as events:
                async for _ in events:
                    pass
        except PangeoBinderError as error:
            reason = error.message if isinstance(error, UserError) else type(error).__name__
            log.warning("%s could not be built in advance: %s", ref.name, reason)

    async def _journey(self, click: Click) -> AsyncGenerator[Event, None]:
        stages = Stages()
        provider = provider_for(self._with.providers, click.provider)
        ref = provider.parse(click.spec)
        yield Event(Phase.WAITING, f"Looking up {', '.join(filter(None, (ref.name, ref.ref)))}\n")
        try:
            repo = await self._lookups.resolve(provider, ref)
            if repo.ref.ref != ref.ref:
                yield Event(Phase.WAITING, _renamed(ref, repo.ref))
        except RefNotFound as error:
            repo = await self._default_branch(provider, ref, error)
            yield Event(Phase.WAITING, _moved(ref))
        provenance = provider.known_provenance(repo)
        if provenance is None and self._with.admission.depends_on_provenance(_question(repo, click)):
            yield Event(Phase.WAITING, f"Looking for the commit on the branches and tags of {ref.name}\n")
            provenance = await self._lookups.find_provenance(provider, repo)
        stages.done("resolve")
        question = _question(repo, click, provenance)
        if click.build_only:
            async with aclosing(self._build_only(repo, question)) as building:
                async for event in building:
                    yield event
            return
        if self._gains_by_login(question):
            yield Event(Phase.WAITING, "People who sign in may get more here\n", login=True)
        admitting = measured_admission(repo, self._admit(repo, question))
        async with aclosing(admitting):
            async for step in admitting:
                if isinstance(step, Event):
                    yield step
                    continue
                stages.done("admit")
                async with aclosing(self._seated(step, click, stages)) as rest:
                    async for event in rest:
                        yield event

    def _gains_by_login(self, question: Question) -> bool:
        return self._with.logins and self._with.admission.gains_by_login(question)

    async def _admit(self, repo: Repo, question: Question) -> AsyncGenerator[Event | Seat, None]:
        """Admit the launch. Raises LoginNeeded in place of NotAllowed if a login may change the answer."""
        try:
            async with aclosing(self._with.admission.admit(repo, question)) as admitting:
                async for step in admitting:
                    yield step
        except NotAllowed as error:
            if not self._gains_by_login(question):
                raise
            raise LoginNeeded(error.message, "Sign in: this service may allow it to people with a login.") from None

    async def _default_branch(self, provider: Provider, ref: RepoRef, error: RefNotFound) -> Repo:
        """Return the head of the default branch if `ref` is a default branch's old name; else raise `error`."""
        if ref.ref not in _FORMER_DEFAULTS:
            raise error
        try:
            return await self._lookups.resolve(provider, replace(ref, ref="HEAD"))
        except RefNotFound:
            raise error from None

    async def _build_only(self, repo: Repo, question: Question) -> AsyncGenerator[Event, None]:
        """Follow a build that no launch needs: the policy and the limits of builds apply, but it takes no seat."""
        yield Event(Phase.WAITING, f"{self._with.admission.check(question).reason}\n")
        asker = Asker(question.network, repository_key(question))
        async with aclosing(self._with.builds.follow(repo, asker)) as building:
            async for event in building:
                yield replace(event, phase=Phase.READY) if event.phase is Phase.BUILT else event

    async def _seated(self, seat: Seat, click: Click, stages: Stages) -> AsyncGenerator[Event, None]:
        """Follow a launch that is admitted; its seat is given back when this ends."""
        trace.enter_launch(seat.id)
        who = click.user or "somebody without a login"
        log.info("Launch %s of %s for %r gets the tier %s", seat.id, seat.repo.ref.key, who, seat.grant.tier)
        yield Event(Phase.WAITING, f"{seat.grant.reason}\n", grant=seat.grant)
        asker = Asker(seat.network, seat.repository)
        async with aclosing(self._with.builds.follow(seat.repo, asker)) as building:
            environment = None
            async for event in building:
                environment = event.environment
                yield event
        stages.done("build")
        if environment is None:
            raise PangeoBinderError(f"The build of {seat.repo} ended without an environment")
        launch = await self._complete(seat, environment, click)
        ticket = sign(launch, self._with.ticket_keys, time.time())
        stages.done("ticket")
        async with aclosing(self._start(launch, ticket, click, stages)) as starting:
            async for event in starting:
                yield event

    async def _complete(self, seat: Seat, environment: Environment, click: Click) -> Launch:
        """Return the launch with its environment, and its grant narrowed by what the repository requests."""
        request = await self._with.builds.find_request(environment)
        launch = seat.launch(environment, narrow(seat.grant, request))
        return replace(launch, link=provider_for(self._with.providers, click.provider).link(click, seat.repo))

    async def _start(self, launch: Launch, ticket: str, click: Click, stages: Stages) -> AsyncGenerator[Event, None]:
        """Follow the hub while it starts the server, to READY; stop the server if the user never reaches it."""
        arrived = False
        yield Event(Phase.LAUNCHING, "Starting the server\n", grant=launch.grant)
        try:
            with measured_start(launch.repo):
                async with aclosing(self._with.hub.start(launch, ticket)) as starting:
                    async for message in starting:
                        yield Event(Phase.LAUNCHING, f"{message}\n")
            stages.done("start")
            yield self._ready(launch, click)
            arrived = True
        finally:
            if not arrived:
                self._end(launch)

    def _end(self, launch: Launch) -> None:
        """Stop the server in the background: the user may be gone, and the hub may need time."""
        task = asyncio.create_task(self._with.hub.stop(launch))
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("A server that nobody waits for was left to the culler: %s", type(task.exception()).__name__)

    def _ready(self, launch: Launch, click: Click) -> Event:
        url = server_address(click.hub_url, click.session_domain, launch)
        token = server_token(self._with.ticket_keys[0], launch.id)
        return Event(Phase.READY, f"Server running at {url}\n", launch=launch, url=url, token=token)


def _outcome(event: Event) -> str:
    """Return the outcome of a launch whose last event so far is `event`."""
    if event.phase is not Phase.READY:
        return "left"
    return "ready" if event.launch is not None else "built"


def _moved(ref: RepoRef) -> str:
    return f"{ref.url} has no branch or tag `{ref.ref}`. Trying its default branch (HEAD). Please update the link.\n"


def _renamed(ref: RepoRef, now: RepoRef) -> str:
    return f"{ref.url} has renamed its branch `{ref.ref}` to `{now.ref}`. Please update the link.\n"


def _question(repo: Repo, click: Click, provenance: Provenance | None = None) -> Question:
    """Return the question to the policy; without `provenance`, the commit counts as the repository's own."""
    known = provenance or Provenance()
    return Question(repo.ref, click.user, click.network, known.foreign_reason, known.served, click.groups)
