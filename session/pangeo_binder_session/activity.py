"""Reports the session's last activity to JupyterHub, so that the hub culls it only when idle.

Activity is what Jupyter Server counts (requests, messages of kernels, traffic of jupyter-server-proxy), a kernel that
is busy now, a terminal that has worked since the last report, or a Dask cluster of the session that has work now. The
hub's API: https://jupyterhub.readthedocs.io/en/stable/reference/rest-api.html
"""

from __future__ import annotations

import datetime
import json
import os
from urllib.parse import quote

from tornado.httpclient import HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from .terminals import Terminals

DEFAULT_SECONDS = 60.0
_REQUEST_SECONDS = 10
_MAX_INTERVALS = 5
"""The longest backoff, in intervals, while the hub does not answer."""
_MAX_CLUSTERS = 10
_MAX_BODY_BYTES = 1 << 20
"""The maximum size of an answer; a scheduler is the session's own and may answer anything."""


def start(serverapp):
    """Start reporting if a hub started this server."""
    url, token = _activity_url(os.environ), os.environ.get("JUPYTERHUB_API_TOKEN")
    if url and token:
        serverapp.io_loop.add_callback(ActivityReporter(serverapp, url, token).report)


def _activity_url(environ):
    if environ.get("JUPYTERHUB_ACTIVITY_URL"):
        return environ["JUPYTERHUB_ACTIVITY_URL"]
    if environ.get("JUPYTERHUB_API_URL") and environ.get("JUPYTERHUB_USER"):
        return "{}/users/{}/activity".format(environ["JUPYTERHUB_API_URL"], quote(environ["JUPYTERHUB_USER"], safe=""))
    return ""


def _interval_seconds(environ):
    try:
        return max(1.0, float(environ.get("PANGEO_BINDER_ACTIVITY_SECONDS", "")))
    except ValueError:
        return DEFAULT_SECONDS


class ActivityReporter:
    """Periodic reporter on the server's event loop."""

    def __init__(self, serverapp, url, token):
        self._app = serverapp
        self._url = url
        self._token = token
        self._failures = 0
        self._clusters = DaskClusters(os.environ, token)
        self._terminals = Terminals(serverapp.web_app.settings)

    async def report(self):
        """Report once and schedule the next report; after a failure the next report retries."""
        try:
            await self._post(await self._last_activity())
            self._failures = 0
        except Exception as error:  # errors of the hub or an old Jupyter must not stop the server
            if not self._failures:
                self._app.log.debug("pangeo-binder: activity was not reported: %s", type(error).__name__)
            self._failures += 1
        wait = _interval_seconds(os.environ) * min(2**self._failures, _MAX_INTERVALS)
        self._app.io_loop.call_later(wait, self.report)

    async def _last_activity(self):
        now = datetime.datetime.now(datetime.timezone.utc)
        terminals = self._terminals.are_working()  # always asked, because it compares with the previous report
        if terminals or self._kernel_is_busy() or await self._clusters.are_computing():
            return now
        return self._app.web_app.last_activity()

    def _kernel_is_busy(self):
        return any(kernel.get("execution_state") == "busy" for kernel in self._app.kernel_manager.list_kernels())

    async def _post(self, last_activity):
        when = last_activity.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        server = os.environ.get("JUPYTERHUB_SERVER_NAME", "")
        body = {"servers": {server: {"last_activity": when}}, "last_activity": when}
        headers = {"Authorization": "token " + self._token, "Content-Type": "application/json"}
        await _fetch(HTTPRequest(self._url, method="POST", headers=headers, body=json.dumps(body)))


class DaskClusters:
    """The session's Dask clusters, as reported by its gateway and their schedulers."""

    def __init__(self, environ, token):
        self._address = environ.get("DASK_GATEWAY__ADDRESS", "").rstrip("/")
        self._first = environ.get("DASK_GATEWAY_CLUSTER", "")
        self._dashboard = environ.get("PANGEO_BINDER_DASHBOARD", "")
        self._headers = {"Authorization": "jupyterhub " + token}

    async def are_computing(self):
        """Return whether any cluster has work now; one that does not answer has none."""
        for request in await self._requests():
            try:
                if has_work(json.loads((await _fetch(request)).body)):
                    return True
            except Exception:  # noqa: S112 - a stopped or starting cluster
                continue
        return False

    async def _requests(self):
        """Return the requests for each scheduler's task counts; only requests to the gateway have the token."""
        # every scheduler serves this page: distributed.http.scheduler.json
        requests = [HTTPRequest(self._dashboard + "/json/counts.json")] if self._dashboard else []
        if self._address:
            for name in await self._names():
                url = "{}/clusters/{}/json/counts.json".format(self._address, quote(name, safe=""))
                requests.append(HTTPRequest(url, headers=self._headers))
        return requests

    async def _names(self):
        names = {self._first} if self._first else set()
        try:
            listed = await _fetch(HTTPRequest(self._address + "/api/v1/clusters/", headers=self._headers))
            names.update(list(json.loads(listed.body))[:_MAX_CLUSTERS])
        except Exception:  # noqa: S110 - the first cluster is known without the gateway
            pass
        return names


def has_work(counts):
    """Return whether a scheduler with these task counts computes, or has tasks that wait for a worker.

    Without a worker, tasks are queued and no count names them: they are those that are neither released nor failed.
    """
    if counts["processing"] > 0 or counts.get("unrunnable", 0) > 0:
        return True
    pending = counts.get("tasks", 0) - counts.get("released", 0) - counts.get("erred", 0)
    return counts.get("workers", 1) == 0 and pending > 0


async def _fetch(request):
    request.connect_timeout = request.request_timeout = _REQUEST_SECONDS
    client = SimpleAsyncHTTPClient(force_instance=True, max_body_size=_MAX_BODY_BYTES)
    try:
        return await client.fetch(request)
    finally:
        client.close()
