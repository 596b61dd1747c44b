"""What every spawner of ours does: take a ticket, keep the grant in the server's state, provision, clean up after.

`LaunchSpawnerMixin` tells the story; a driver (`local`) fills `prepare`, `start` and `discard`. Runs in the hub. Not
for making clusters or credentials itself, which `provision` asks the services for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from jupyterhub.spawner import SpawnException
from jupyterhub.utils import maybe_future
from traitlets import Instance, List, Unicode, default
from traitlets.config import LoggingConfigurable

from .. import metrics
from ..errors import SeatLost, TicketInvalid, UserError, refusal_text
from ..model import STATE_KEY, Launch, launch_of, to_wire
from ..ticket import TicketVerifier
from .admissions import EXPIRY_SECONDS, AdmissionTable
from .provision import Provisioned, Provisioner

_STARTED = time.time()


class Refused(SpawnException):
    """A UserError on its way through the hub to the binder, which tells it apart from any other failure."""

    def __init__(self, error: UserError) -> None:
        super().__init__(str(error), reason=error.reason, status_code=error.status)
        self.jupyterhub_message = refusal_text(error)


@cache
def _verifier(keys: tuple[str, ...]) -> TicketVerifier:
    """One verifier for the life of the hub, since its memory of used tickets is what makes a ticket good only once."""
    return TicketVerifier(list(keys), _STARTED)


if TYPE_CHECKING:
    from jupyterhub.spawner import Spawner as _Base
else:
    # a mixin that is itself a Spawner would have to define how to start, which is the driver's to do
    _Base = LoggingConfigurable


class LaunchSpawnerMixin(_Base):
    """A spawner that starts nothing without a valid ticket, and leaves nothing when its server ends."""

    ticket_keys = List(Unicode(), help="Keys that verify tickets, newest first.", config=True)
    admissions = Instance(AdmissionTable, help="The seats that launches hold.", config=True)
    provisioner = Instance(Provisioner, help="Asks the services for a launch's cluster and credentials.", config=True)

    launch: Launch | None = None
    """The launch this server belongs to, while it starts or runs."""
    _ended: Launch | None = None
    _given = Instance(asyncio.Event, args=(), help="Set once the launch has been provisioned.")
    _server_token = ""
    _provisioned = Provisioned()
    _settling: asyncio.Task[None] | None = None

    async def run_pre_spawn_hook(self) -> None:
        """Spend the ticket, apply its grant, and get what it grants; any refusal ends the spawn with its sentence."""
        try:
            self._take_ticket()
            assert self.launch is not None
            await self.prepare(self.launch)
            self._provisioned = await self.provisioner.provision(self.launch, self.api_token, self.keep)
            self._given.set()
        except UserError as error:
            if isinstance(error, TicketInvalid | SeatLost):
                metrics.TICKETS.labels(error.reason).inc()
            raise Refused(error) from None
        await maybe_future(super().run_pre_spawn_hook())

    @default("apply_user_options")
    def _options_are_tickets(self) -> Callable[[Any, dict[str, Any]], None]:
        """The one option, the ticket, is spent by the pre-spawn hook; the hub would warn that nobody takes it."""
        return lambda spawner, options: None

    def _take_ticket(self) -> None:
        ticket = self.user_options.get("ticket", "")
        verifier = _verifier(tuple(self.ticket_keys))
        verified = verifier.verify(str(ticket), self.user.name, self.name, time.time())
        # a binder that stalled may have lost the seat to another launch; from here on the launch counts as running
        if not self.admissions.claim(verified.launch.id):
            raise SeatLost(
                f"This launch lost its seat, because the binder did not renew it for {EXPIRY_SECONDS:g} seconds.",
                "Open the launch link again.",
            )
        self.launch = self._ended = verified.launch
        self._server_token = verified.server_token
        metrics.TICKETS.labels("verified").inc()

    async def prepare(self, launch: Launch) -> None:
        """Put the launch's limits on the server about to start, and make what it starts in. Drivers extend this."""
        self.cpu_limit = launch.grant.server.cpu
        self.mem_limit = launch.grant.server.memory_bytes

    async def keep(self, storage: Mapping[str, str]) -> None:
        """Put the launch's storage variables where its workers find them, if the driver has to."""

    async def discard(self, launch: Launch) -> None:
        """Remove what the driver made for a server that has ended."""

    def get_env(self) -> dict[str, str]:
        """Return the server's environment: JupyterHub's, and what this launch was given."""
        env: dict[str, str] = super().get_env()
        if self.launch is not None:
            env.update(self._provisioned.environment)
            env.update(self._launch_environment(self.launch))
        return env

    def _launch_environment(self, launch: Launch) -> dict[str, str]:
        ends_at = time.time() + launch.grant.server.max_age_seconds
        return {
            "JUPYTER_TOKEN": self._server_token,
            "PANGEO_BINDER_LAUNCH": launch.id,
            "PANGEO_BINDER_ENDS_AT": str(int(ends_at)),
            # several reports within the idle time, so that a lost one culls nobody who works
            "PANGEO_BINDER_ACTIVITY_SECONDS": str(min(60, max(1, launch.grant.server.idle_seconds // 4))),
            "BINDER_REPO_URL": launch.repo.ref.url,
            "BINDER_REF": launch.repo.commit,
            "BINDER_LAUNCH_HOST": self.public_url or "",
        }

    async def settle(self) -> None:
        """See that the launch's first cluster runs with its first workers.

        Where the tier requires it this waits, and a cluster that fails ends the spawn; else it goes on beside.
        """
        launch, cluster = self.launch, self._provisioned.cluster
        if launch is None or launch.grant.dask is None or not cluster:
            return
        settling = self.provisioner.settle(launch, cluster, self.api_token)
        if not launch.grant.dask.required:
            self._settling = asyncio.create_task(self._tolerate(settling))
            return
        try:
            await settling
        except UserError as error:
            raise Refused(error) from None

    async def _tolerate(self, settling: Coroutine[Any, Any, None]) -> None:
        try:
            await settling
        except UserError as error:
            self.log.warning("%s goes on without its first Dask cluster: %s", self._log_name, error.message)

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the launch page shows while the server starts, once it is known what the launch was given."""
        await self._given.wait()
        yield {"progress": 10, "message": "Ticket accepted, starting the server"}
        if self._provisioned.cluster:
            yield {"progress": 30, "message": f"Dask cluster {self._provisioned.cluster} is starting"}
        if "SCRATCH_BUCKET" in self._provisioned.environment:
            yield {"progress": 40, "message": f"Scratch storage at {self._provisioned.environment['SCRATCH_BUCKET']}"}
        for note in self._provisioned.notes:
            yield {"progress": 50, "message": note}

    async def run_post_stop_hook(self) -> None:
        """Release all that belonged to the launch; called after a stop, a death and a failed start alike."""
        await maybe_future(super().run_post_stop_hook())
        if self._settling is not None:
            self._settling.cancel()
        self._given.clear()
        launch, self._ended, self._provisioned = self._ended, None, Provisioned()
        if launch is not None:
            await asyncio.gather(self.provisioner.release(launch), self.discard(launch))

    def get_state(self) -> dict[str, Any]:
        """Return the state the hub keeps; the launch in it is written by the hub alone."""
        state: dict[str, Any] = super().get_state()
        if self.launch is not None:
            state[STATE_KEY] = to_wire(self.launch)
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up a server that outlived the hub."""
        super().load_state(state)
        self.launch = self._ended = launch_of({"state": state})
        if self.launch is None and state:
            self.log.error("The state of %s holds no launch that can be read; the culler will end it", self._log_name)

    def clear_state(self) -> None:
        """Forget the server; what belonged to its launch is remembered until the post-stop hook has released it."""
        super().clear_state()
        self.launch = None
