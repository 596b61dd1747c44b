"""Our backend where no scheduler really runs: messages to schedulers go to an address the test listens at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pangeo_binder.gateway.kube.backend import KubeLaunchBackend


class StandBackend(KubeLaunchBackend):
    """Finds schedulers where the file `scheduler` beside its configuration says: simulated pods have no address."""

    async def forward_message_to_scheduler(self, cluster: Any, msg: dict[str, Any]) -> None:
        cluster.api_address = (Path(self.parent.config_file).parent / "scheduler").read_text()
        await super().forward_message_to_scheduler(cluster, msg)
