"""The session's cluster where the operator of Kubernetes made it: a scheduler to speak with, and nothing to command.

It scales itself between the bounds that the session was granted. Its dashboard is brought to this machine's loopback,
where the server's proxies may reach it, and the Dask panel with them. Needs distributed.
"""

import asyncio
import warnings
from urllib.parse import urlsplit

from distributed import Security
from distributed.core import rpc
from distributed.deploy import Cluster

_LOOPBACK = "127.0.0.1"
_CHUNK_BYTES = 65536
_SILENT = (
    "The Dask cluster of this session does not answer. It may still be starting; once it has ended, because it had"
    " nothing to do for long, only another launch brings another."
)


def attach_to_scheduler(environ, **kwargs):
    """Return the cluster that `environ` tells of."""
    most = environ.get("PANGEO_BINDER_MOST_WORKERS", "")
    return SchedulerCluster(
        environ["DASK_SCHEDULER_ADDRESS"], environ.get("PANGEO_BINDER_DASHBOARD", ""), most, **kwargs
    )


class SchedulerCluster(Cluster):
    """A cluster that lives as long as the session; closing this closes the connection to it."""

    def __init__(self, address, dashboard, most, asynchronous=False, **kwargs):
        super().__init__(asynchronous=asynchronous, **kwargs)
        self._address, self._dashboard, self._most = address, urlsplit(dashboard), most
        self._forwarding = None
        if not self.asynchronous:
            self._loop_runner.start()
            self.sync(self._start)

    def __await__(self):
        """Wait until it is attached."""

        async def start():
            if self.status.name == "created":
                await self._start()
            return self

        return start().__await__()

    async def _start(self):
        arguments = Security().get_connection_args("client")
        self.scheduler_comm = rpc(self._address, connection_args=arguments)
        if self._dashboard.hostname:
            self._forwarding = await asyncio.start_server(self._forward, _LOOPBACK, 0)
        try:
            await super()._start()
        except OSError:
            await self._close()
            raise RuntimeError(_SILENT) from None

    async def _close(self):
        if self._forwarding is not None:
            self._forwarding.close()
        await super()._close()

    @property
    def dashboard_link(self):
        """Where the dashboard is, seen from this machine; `/proxy/<port>/` of the session's server leads there."""
        if self._forwarding is None:
            return ""
        return "http://{}:{}/status".format(*self._forwarding.sockets[0].getsockname()[:2])

    def scale(self, n):
        """Do nothing but say so: the operator scales."""
        self._scales_itself()

    def adapt(self, **kwargs):
        """Do nothing but say so: the operator scales."""
        self._scales_itself()

    def _scales_itself(self):
        warnings.warn(
            "This cluster grows and shrinks by itself with its work, up to {} workers.".format(
                self._most or "its grant's"
            ),
            stacklevel=3,
        )

    async def _forward(self, reader, writer):
        try:
            there, here = await asyncio.open_connection(self._dashboard.hostname, self._dashboard.port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, here), _copy(there, writer))


async def _copy(reader, writer):
    try:
        while True:
            data = await reader.read(_CHUNK_BYTES)
            if not data:
                break
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
