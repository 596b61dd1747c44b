"""The part of the Kubernetes API that builds use: Jobs, their pods, and those pods' logs, in one namespace.

Needs a Role in that namespace and no rights elsewhere: `jobs` create, get, list, patch, delete; `pods` list; `pods/log`
get. Runs in the binder; what a status means is `podstate`'s.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, Final

from kubernetes_asyncio.client.rest import ApiException

from ...errors import PangeoBinderError
from ...kube.api import NO_ANSWER, KubeApi, refusal_by
from ...kube.pod_status import Json
from ...kube.refusals import Refusal, Why, refusal_of
from ...names import BUILD_LABEL
from .podlog import LogCursor

_CALL_SECONDS: Final = 30
_SILENCE_SECONDS: Final = 60
"""A log without output for this long is requested again: the connection may be dead."""
_CHUNK_BYTES: Final = 1 << 16


class ClusterUnavailable(PangeoBinderError):
    """The Kubernetes API refused a request, or did not answer (`status` 0)."""

    def __init__(self, what: str, status: int, refusal: Refusal) -> None:
        answer = f"status {status} ({refusal.why})" if status else "no answer"
        super().__init__(f"Kubernetes did not let the binder {what}: {answer}")
        self.refusal = refusal

    @property
    def may_pass(self) -> bool:
        """Whether asking again later may help."""
        return self.refusal.is_temporary


class AlreadyThere(PangeoBinderError):
    """A Job of this name exists already."""


class NoRoom(PangeoBinderError):
    """The namespace's quota has no room for another Job now."""


@contextmanager
def _asking(what: str) -> Iterator[None]:
    try:
        yield
    except ApiException as error:
        raise ClusterUnavailable(what, int(error.status or 0), refusal_by(error)) from None
    except NO_ANSWER:
        raise ClusterUnavailable(what, 0, Refusal(Why.UNAVAILABLE)) from None


class Jobs:
    """Jobs of one namespace; for the life of the binder. Every method raises ClusterUnavailable."""

    def __init__(self, namespace: str, kubeconfig: str = "") -> None:
        """`kubeconfig` is a file, or empty within the cluster."""
        self._namespace = namespace
        self._api = KubeApi(kubeconfig)

    async def create(self, manifest: dict[str, Any]) -> Any:
        """Create a Job and return it. Raises AlreadyThere or NoRoom."""
        api = await self._api.batch()
        try:
            with _asking("create a Job"):
                return await api.create_namespaced_job(self._namespace, manifest, _request_timeout=_CALL_SECONDS)
        except ClusterUnavailable as error:
            if error.refusal.why is Why.EXISTS:
                raise AlreadyThere from None
            if error.refusal.why is Why.QUOTA:
                raise NoRoom from None
            raise

    async def get(self, name: str) -> Any | None:
        """Return the Job `name`, or None."""
        api = await self._api.batch()
        try:
            with _asking("read a Job"):
                return await api.read_namespaced_job(name, self._namespace, _request_timeout=_CALL_SECONDS)
        except ClusterUnavailable as error:
            if error.refusal.why is Why.MISSING:
                return None
            raise

    async def all(self) -> list[Any]:
        """Return the Jobs of all builds that Kubernetes still has."""
        api = await self._api.batch()
        with _asking("list Jobs"):
            found = await api.list_namespaced_job(
                self._namespace, label_selector=BUILD_LABEL, _request_timeout=_CALL_SECONDS
            )
        return list(found.items)

    async def annotate(self, job: Any, name: str, text: str) -> bool:
        """Set an annotation of exactly this Job; return whether it still exists."""
        api = await self._api.batch()
        body = {"metadata": {"uid": job.metadata.uid, "annotations": {name: text}}}
        try:
            with _asking("annotate a Job"):
                changed = await api.patch_namespaced_job(
                    job.metadata.name, self._namespace, body, _request_timeout=_CALL_SECONDS
                )
        except ClusterUnavailable as error:
            # a Job of another uid is refused as invalid
            if error.refusal.why in (Why.MISSING, Why.CONFLICT, Why.INVALID):
                return False
            raise
        return changed.metadata.deletion_timestamp is None

    async def delete(self, job: Any, unchanged: bool = False) -> bool:
        """Delete exactly this Job with its pods, and return whether that was done; a newer one of the same name stays.

        `unchanged` also keeps a Job that was changed after it was read.
        """
        api = await self._api.batch()
        name, options = job.metadata.name, {"propagationPolicy": "Background"}
        version = {"resourceVersion": job.metadata.resource_version} if unchanged else {}
        body = {**options, "preconditions": {"uid": job.metadata.uid, **version}}
        try:
            with _asking("delete a Job"):
                await api.delete_namespaced_job(name, self._namespace, body=body, _request_timeout=_CALL_SECONDS)
        except ClusterUnavailable as error:
            if error.refusal.why not in (Why.MISSING, Why.CONFLICT):
                raise
            return False
        return True

    async def pod(self, job: Any) -> Json | None:
        """Return the Job's newest pod as plain JSON, or None."""
        api = await self._api.core()
        selector = f"{BUILD_LABEL}={job.metadata.labels[BUILD_LABEL]}"
        with _asking("list pods"):
            found = await api.list_namespaced_pod(
                self._namespace, label_selector=selector, _request_timeout=_CALL_SECONDS
            )
        own = [each for each in found.items if _owned_by(each, job.metadata.uid)]
        newest = max(own, key=lambda pod: pod.metadata.creation_timestamp, default=None)
        pod: Json | None = await self._api.as_json(newest)
        return pod

    async def log(self, pod: Json, container: str, cursor: LogCursor, follow: bool) -> AsyncGenerator[str, None]:
        """Yield the new lines of a container's log: all so far, or with `follow` those until the container ends."""
        api = await self._api.core()
        cursor.begin()
        with _asking("read a pod's log"):
            response = await api.read_namespaced_pod_log(
                pod["metadata"]["name"],
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
                    raise ClusterUnavailable("read a pod's log", response.status, refusal_of(response.status, None))
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    for line in cursor.feed(chunk):
                        yield line

    async def close(self) -> None:
        """Close its connections."""
        await self._api.close()


def _owned_by(pod: Any, uid: str) -> bool:
    return any(owner.uid == uid for owner in pod.metadata.owner_references or ())
