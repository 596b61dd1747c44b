"""A Kubernetes client whose failing lists take a while, so that what asks again at once does not ask a thousand times.

dask-gateway's informers list again without a pause for as long as that fails: while the API server restarts they would
keep a core and the log busy, and the API server with them. Used by both processes of the gateway on Kubernetes.
"""

from __future__ import annotations

import asyncio
from typing import Any

PAUSE_SECONDS = 1.0


class BackoffClient:
    """Stands for the client it is made with; `list_…` waits before it raises what went wrong."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not name.startswith("list_"):
            return method

        async def with_backoff(*args: Any, **options: Any) -> Any:
            try:
                return await method(*args, **options)
            except Exception:
                await asyncio.sleep(PAUSE_SECONDS)
                raise

        return with_backoff
