"""Connects to a session's cluster run by the Dask operator on Kubernetes, which the session cannot scale.

The operator scales it between the granted bounds. Its dashboard is forwarded to a loopback port of this machine, so
that the server's proxies and the Dask panel reach it. Needs distributed.
"""

import asyncio
import warnings
from urllib.parse import urlsplit

from distributed import Security
from distributed.core import rpc
from distributed.deploy import Cluster

_LOOPBACK = "127.0.0.1"
_CHUNK_BYTES = 65536
_NO_ANSWER = (
    "The Dask cluster of this session does not answer. If it is still starting, try again in a minute."
    " If it was stopped because it was idle, start a new launch to get another one."
)


def attach_to_scheduler(environ, **kwargs):
    """Return the cluster described by the variables in `environ`."""
    max_workers = environ.get("PANGEO_BINDER_MOST_WORKERS", "")
    return SchedulerCluster(
        environ["DASK_SCHEDULER_ADDRESS"], environ.get("PANGEO_BINDER_DASHBOARD", ""), max_workers, **kwargs
    )


class SchedulerCluster(Cluster):
    """Connection to a cluster that runs as long as the session; closing it leaves the cluster running."""

    def __init__(self, address, dashboard, max_workers, asynchronous=False, **kwargs):
        super().__init__(asynchronous=asynchronous, **kwargs)
        self._address, self._dashboard, self._max_workers = address, urlsplit(dashboard), max_workers
        self._forwarding = None
        if not self.asynchronous:
            self._loop_runner.start()
            self.sync(self._start)

    def __await__(self):
        """Wait until the connection is open."""

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
            raise RuntimeError(_NO_ANSWER) from None

    async def _close(self):
        if self._forwarding is not None:
            self._forwarding.close()
        await super()._close()

    @property
    def dashboard_link(self):
        """The dashboard's URL on this machine; the session's server proxies it at `/proxy/<port>/`."""
        if self._forwarding is None:
            return ""
        return "http://{}:{}/status".format(*self._forwarding.sockets[0].getsockname()[:2])

    def scale(self, n):
        """Only warn: the operator scales the cluster."""
        self._warn_scaling_is_automatic()

    def adapt(self, **kwargs):
        """Only warn: the operator scales the cluster."""
        self._warn_scaling_is_automatic()

    def _warn_scaling_is_automatic(self):
        warnings.warn(
            "This cluster scales automatically with its work, up to {} workers.".format(
                self._max_workers or "the granted"
            ),
            stacklevel=3,
        )

    async def _forward(self, reader, writer):
        try:
            from_dashboard, to_dashboard = await asyncio.open_connection(self._dashboard.hostname, self._dashboard.port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, to_dashboard), _copy(from_dashboard, writer))


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
