"""A Kubernetes client that waits before dask-gateway's code can retry, and retries what that code would misread.

dask-gateway's informers retry a failing list without a pause: while the API server restarts, they would load a core,
the log and the API server. And dask-gateway takes every conflict for an object that exists already, also a conflict
between two requests that the quota counts at once. Used by both processes of the gateway on Kubernetes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from kubernetes_asyncio.client.rest import ApiException

from ...kube.refusals import Why, refusal_of

PAUSE_SECONDS = 1.0
_QUOTA_TRIES, _QUOTA_PAUSE_SECONDS = 10, 0.2
Method = Callable[..., Awaitable[Any]]


class BackoffClient:
    """Wraps a client: `list_…` waits before it raises an error, `create_…` repeats a request after a quota conflict."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name.startswith("list_"):
            return _with_pause(method)
        return _with_retries(method) if name.startswith("create_") else method


def _with_pause(method: Method) -> Method:
    async def with_pause(*args: Any, **options: Any) -> Any:
        try:
            return await method(*args, **options)
        except Exception:
            await asyncio.sleep(PAUSE_SECONDS)
            raise

    return with_pause


def _with_retries(method: Method) -> Method:
    async def with_retries(*args: Any, **options: Any) -> Any:
        for _ in range(_QUOTA_TRIES):
            try:
                return await method(*args, **options)
            except ApiException as error:
                if refusal_of(error.status, error.body).why is not Why.QUOTA_CONFLICT:
                    raise
            await asyncio.sleep(_QUOTA_PAUSE_SECONDS)
        return await method(*args, **options)

    return with_retries
