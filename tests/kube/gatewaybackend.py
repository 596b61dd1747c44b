"""The Kubernetes backend for simulated pods: messages to schedulers go to an address at which the test listens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pangeo_binder.gateway.kube.backend import KubeLaunchBackend


class StandBackend(KubeLaunchBackend):
    """Reads the schedulers' address from the file `scheduler` next to its configuration: simulated pods have none."""

    async def forward_message_to_scheduler(self, cluster: Any, msg: dict[str, Any]) -> None:
        cluster.api_address = (Path(self.parent.config_file).parent / "scheduler").read_text()
        await super().forward_message_to_scheduler(cluster, msg)
