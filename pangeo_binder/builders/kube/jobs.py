"""The Kubernetes API as builds need it: Jobs, their pods, and those pods' logs, in one namespace.

Needs a Role in that namespace, and nothing elsewhere: `jobs` create, get, delete; `pods` list; `pods/log` get. Runs in
the binder; what states mean is `podstate`'s.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import aiohttp
from kubernetes_asyncio import client, config

from ...errors import PangeoBinderError
from ...names import BUILD_LABEL
from .podlog import LogCursor

_CALL_SECONDS: Final = 30
_SILENCE_SECONDS: Final = 60
"""A log that says nothing for this long is asked for anew: the connection may be dead."""
_CHUNK_BYTES: Final = 1 << 16


class ClusterUnavailable(PangeoBinderError):
    """The Kubernetes API did not answer (`status` 0), or not as it should."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(f"Kubernetes did not let the binder {what}: {f'status {status}' if status else 'no answer'}")
        self.status = status

    @property
    def may_pass(self) -> bool:
        """Whether asking again later may help."""
        return self.status in (0, 429) or self.status >= 500


class AlreadyThere(PangeoBinderError):
    """There is a Job of this name."""


class NoRoom(PangeoBinderError):
    """The namespace's quota has no room for another Job now."""


@contextmanager
def _asking(what: str) -> Iterator[None]:
    try:
        yield
    except client.ApiException as error:
        if error.status == 409 and what.startswith("create"):
            raise AlreadyThere from None
        if error.status == 403 and "exceeded quota" in str(error.body):
            raise NoRoom from None
        raise ClusterUnavailable(what, int(error.status or 0)) from None
    except (aiohttp.ClientError, TimeoutError, OSError):
        raise ClusterUnavailable(what, 0) from None


class Jobs:
    """Jobs of one namespace; for the life of the binder. Every method raises ClusterUnavailable."""

    def __init__(self, namespace: str, kubeconfig: str = "") -> None:
        """`kubeconfig` is a file, or empty within the cluster."""
        self._namespace = namespace
        self._kubeconfig = kubeconfig
        self._client: client.ApiClient | None = None

    async def create(self, manifest: dict[str, Any]) -> Any:
        """Create a Job and return it. Raises AlreadyThere or NoRoom."""
        api: Any = client.BatchV1Api(await self._connected())
        with _asking("create a Job"):
            return await api.create_namespaced_job(self._namespace, manifest, _request_timeout=_CALL_SECONDS)

    async def get(self, name: str) -> Any | None:
        """Return the Job `name`, or None."""
        api: Any = client.BatchV1Api(await self._connected())
        try:
            with _asking("read a Job"):
                return await api.read_namespaced_job(name, self._namespace, _request_timeout=_CALL_SECONDS)
        except ClusterUnavailable as error:
            if error.status == 404:
                return None
            raise

    async def delete(self, job: Any) -> None:
        """Delete exactly this Job with its pods; one of the same name made since stays."""
        api: Any = client.BatchV1Api(await self._connected())
        name, options = job.metadata.name, {"propagationPolicy": "Background"}
        body = {**options, "preconditions": {"uid": job.metadata.uid}}
        try:
            with _asking("delete a Job"):
                await api.delete_namespaced_job(name, self._namespace, body=body, _request_timeout=_CALL_SECONDS)
        except ClusterUnavailable as error:
            if error.status not in (404, 409):
                raise

    async def pod(self, job: Any) -> Any | None:
        """Return the Job's newest pod, or None."""
        api: Any = client.CoreV1Api(await self._connected())
        selector = f"{BUILD_LABEL}={job.metadata.labels[BUILD_LABEL]}"
        with _asking("list pods"):
            found = await api.list_namespaced_pod(
                self._namespace, label_selector=selector, _request_timeout=_CALL_SECONDS
            )
        own = [each for each in found.items if _owned_by(each, job.metadata.uid)]
        return max(own, key=lambda pod: pod.metadata.creation_timestamp, default=None)

    async def log(self, pod: Any, container: str, cursor: LogCursor, follow: bool) -> AsyncGenerator[str, None]:
        """Yield the new lines of a container's log: all there are, or with `follow` until the container ends."""
        api: Any = client.CoreV1Api(await self._connected())
        cursor.begin()
        with _asking("read a pod's log"):
            response = await api.read_namespaced_pod_log(
                pod.metadata.name,
                self._namespace,
                container=container,
                follow=follow,
                timestamps=True,
                since_seconds=cursor.since_seconds,
                _preload_content=False,
                _request_timeout=(_CALL_SECONDS, _SILENCE_SECONDS),
            )
            async with response:
                if response.status != 200:
                    raise ClusterUnavailable("read a pod's log", response.status)
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    for line in cursor.feed(chunk):
                        yield line

    async def close(self) -> None:
        """Close its connections."""
        if self._client:
            await self._client.close()

    async def _connected(self) -> client.ApiClient:
        if self._client is None:
            settings = client.Configuration()
            if self._kubeconfig:
                await config.load_kube_config(self._kubeconfig, client_configuration=settings)
            else:
                config.load_incluster_config(client_configuration=settings)
            # another task may have connected meanwhile
            self._client = self._client or client.ApiClient(settings)
        return self._client


def _owned_by(pod: Any, uid: str) -> bool:
    return any(owner.uid == uid for owner in pod.metadata.owner_references or ())
