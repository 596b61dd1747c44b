"""The steps common to all spawners: verify the ticket, store the launch in the state, provision, clean up.

`LaunchSpawnerMixin` holds the steps; a driver (`local`, `kube`) implements `prepare`, `start` and `discard`. Runs in
the hub. Not for making clusters or credentials, which `provision` requests from the services.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from jupyterhub.spawner import SpawnException
from jupyterhub.utils import maybe_future
from traitlets import Instance, List, Unicode, default, validate
from traitlets.config import LoggingConfigurable
from traitlets.utils.bunch import Bunch

from .. import metrics, trace
from ..errors import SeatLost, TicketInvalid, UserError, refusal_text
from ..model import STATE_KEY, Launch, launch_of, to_wire
from ..names import is_anonymous_user, is_server_name
from ..ticket import TicketVerifier
from ..trace import Trace
from .admissions import EXPIRY_SECONDS, AdmissionTable
from .provision import Provisioned, Provisioner

_STARTED = time.time()
_FIRST_LOOK_SECONDS, _LOOK_SECONDS, _LOOK_GROWTH = 0.01, 1.0, 1.05


class Refused(SpawnException):
    """A UserError passed through the hub to the binder, which recognises it among other failures."""

    def __init__(self, error: UserError) -> None:
        super().__init__(str(error), reason=error.reason, status_code=error.status)
        self.jupyterhub_message = refusal_text(error)


def growing_pauses() -> Iterator[float]:
    """Yield the seconds between looks at a server that starts, from 10 ms to one second.

    Each pause is about a twentieth of the time so far: a quick server is seen at once, and a hundred slow ones keep the
    hub free.
    """
    seconds = _FIRST_LOOK_SECONDS
    while True:
        yield seconds
        seconds = min(seconds * _LOOK_GROWTH, _LOOK_SECONDS)


@cache
def _verifier(keys: tuple[str, ...]) -> TicketVerifier:
    """Return the one verifier for the life of the hub: it remembers used tickets, so each works only once."""
    return TicketVerifier(list(keys), _STARTED)


if TYPE_CHECKING:
    from jupyterhub.spawner import Spawner as _Base
else:
    # a mixin that subclassed Spawner would have to define start(), which belongs to the driver
    _Base = LoggingConfigurable


class LaunchSpawnerMixin(_Base):
    """A spawner that starts a server only with a valid ticket, and removes everything when it ends."""

    ticket_keys = List(Unicode(), help="Keys that verify tickets, newest first.", config=True)
    admissions = Instance(AdmissionTable, help="The seats that launches hold.", config=True)
    allow_origins = List(Unicode(), help="The other sites whose pages may use sessions; `*` for all.", config=True)
    provisioner = Instance(Provisioner, help="Requests clusters and credentials from the services.", config=True)

    launch: Launch | None = None
    """The launch this server belongs to, while it starts or runs."""
    _ended: Launch | None = None
    _is_provisioned = Instance(asyncio.Event, args=(), help="Set once the launch has been provisioned.")
    _server_token = ""
    _provisioned = Provisioned()
    _settling: asyncio.Task[None] | None = None
    _trace: Trace | None = None
    """The trace of the request that started the server; None after a restart of the hub."""

    async def run_pre_spawn_hook(self) -> None:
        """Verify the ticket, apply its grant and provision it; a UserError ends the spawn with its message."""
        try:
            self._take_ticket()
            assert self.launch is not None
            headers = self.handler.request.headers if self.handler else {}
            self._trace = trace.enter(headers.get(trace.HEADER, ""), self.launch.id)
            await self.prepare(self.launch)
            self._provisioned = await self.provisioner.provision(self.launch, self.api_token, self.keep)
            self._is_provisioned.set()
        except UserError as error:
            if isinstance(error, TicketInvalid | SeatLost):
                metrics.TICKETS.labels(error.reason).inc()
            raise Refused(error) from None
        await maybe_future(super().run_pre_spawn_hook())

    @validate("proxy_spec")
    def _each_server_has_its_host(self, proposal: Bunch) -> str:
        """Return the proxy's route for this server, with a host of its own if users have hosts.

        JupyterHub gives all named servers of a user one host. Repositories are hostile to one another, also if one
        person launches them, and the browser's only border is the host.
        """
        host, slash, path = str(proposal.value).partition("/")
        if not host or not is_server_name(self.name):
            return str(proposal.value)
        return f"{self.name}.{host.partition('.')[2]}{slash}{path}"

    @default("apply_user_options")
    def _options_are_tickets(self) -> Callable[[Any, dict[str, Any]], None]:
        """Return a no-op: the pre-spawn hook reads the ticket, and the hub would warn about an unused option."""
        return lambda spawner, options: None

    def _take_ticket(self) -> None:
        ticket = self.user_options.get("ticket", "")
        verifier = _verifier(tuple(self.ticket_keys))
        # a person's default server has no host of its own, and a user of one launch has no other server
        if is_anonymous_user(self.user.name) != (self.name == ""):
            raise TicketInvalid("People have named servers, and others have none.", "Open the launch link again.")
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

    def continue_trace(self, launch: Launch | None) -> None:
        """Say that the running task works for `launch`: JupyterHub runs each step of a server in a task of its own."""
        if launch is not None:
            trace.enter_launch(launch.id, self._trace)

    async def prepare(self, launch: Launch) -> None:
        """Set the launch's limits on the server before it starts. Drivers extend this to prepare its environment."""
        self.cpu_limit = launch.grant.server.cpu
        self.mem_limit = launch.grant.server.memory_bytes

    def origin_args(self) -> list[str]:
        """Return the server's arguments for pages of other sites (thebe), which have the session's token.

        A pattern, because Jupyter's `allow_origin` has room for one site, and answers with it to every other.
        """
        if not self.allow_origins:
            return []
        if "*" in self.allow_origins:
            return ["--ServerApp.allow_origin=*"]
        return [f"--ServerApp.allow_origin_pat=^(?:{'|'.join(map(re.escape, self.allow_origins))})$"]

    async def keep(self, storage: Mapping[str, str]) -> None:
        """Store the launch's storage variables where its workers read them, if the driver has to."""

    async def discard(self, launch: Launch) -> None:
        """Remove what the driver created for a server that has ended."""

    def get_env(self) -> dict[str, str]:
        """Return the server's environment: JupyterHub's variables and the launch's."""
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
            # several reports within the idle time, so that one lost report does not get an active session culled
            "PANGEO_BINDER_ACTIVITY_SECONDS": str(min(60, max(1, launch.grant.server.idle_seconds // 4))),
            "BINDER_REPO_URL": launch.repo.ref.url,
            "BINDER_REF": launch.repo.revision,
            # BinderHub's names: binderhub/binderspawner_mixin.py
            "BINDER_REF_URL": launch.link.ref_url,
            "BINDER_LAUNCH_HOST": launch.link.host,
            "BINDER_REQUEST": launch.link.request,
            "BINDER_PERSISTENT_REQUEST": launch.link.persistent_request,
        }

    async def settle(self) -> None:
        """Wait until the launch's first cluster runs with its first workers.

        A cluster that fails ends the spawn if the tier requires it; otherwise the wait runs in the background.
        """
        self.continue_trace(self.launch)
        launch, cluster = self.launch, self._provisioned.cluster
        if launch is None or launch.grant.dask is None or not cluster:
            return
        settling = self.provisioner.settle(launch, cluster, self.api_token)
        if not launch.grant.dask.required:
            self._settling = asyncio.create_task(self._settle_in_background(settling))
            return
        try:
            await settling
        except UserError as error:
            raise Refused(error) from None

    async def _settle_in_background(self, settling: Coroutine[Any, Any, None]) -> None:
        try:
            await settling
        except UserError as error:
            self.log.warning("%s continues without its first Dask cluster: %s", self._log_name, error.message)

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield progress events for the launch page, once the launch has been provisioned."""
        await self._is_provisioned.wait()
        yield {"progress": 10, "message": "Ticket accepted, starting the server"}
        if self._provisioned.cluster:
            yield {"progress": 30, "message": f"Dask cluster {self._provisioned.cluster} is starting"}
        if "SCRATCH_BUCKET" in self._provisioned.environment:
            yield {"progress": 40, "message": f"Scratch storage at {self._provisioned.environment['SCRATCH_BUCKET']}"}
        for note in self._provisioned.notes:
            yield {"progress": 50, "message": note}

    async def run_post_stop_hook(self) -> None:
        """Release everything of the launch; called after a stop, a crash and a failed start."""
        self.continue_trace(self._ended)
        await maybe_future(super().run_post_stop_hook())
        if self._settling is not None:
            self._settling.cancel()
        self._is_provisioned.clear()
        launch, self._ended, self._provisioned = self._ended, None, Provisioned()
        if launch is not None:
            await asyncio.gather(self.provisioner.release(launch), self.discard(launch))

    def get_state(self) -> dict[str, Any]:
        """Return the state the hub stores; only the hub writes the launch in it."""
        state: dict[str, Any] = super().get_state()
        if self.launch is not None:
            state[STATE_KEY] = to_wire(self.launch)
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the launch of a server that kept running while the hub restarted."""
        super().load_state(state)
        self.launch = self._ended = launch_of({"state": state})
        if self.launch is None and state:
            self.log.error("The state of %s has no readable launch; the culler will end the server", self._log_name)

    def clear_state(self) -> None:
        """Clear the server's state; `_ended` keeps the launch until the post-stop hook has released it."""
        super().clear_state()
        self.launch = None
