"""Starts servers as pods of a Kubernetes cluster: each in surroundings of its own that bound it, and held to its grant.

KubeSpawner makes the pod and watches it; `namespaces` makes what surrounds it before the pod, and removes it after.
Runs in the hub. Clouds' metadata addresses are closed by the launch's NetworkPolicy: KubeSpawner's own way needs a
privileged init container, which no launch may have.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from kubernetes_asyncio.client.rest import ApiException
from kubespawner import KubeSpawner
from traitlets import Instance

from ..errors import QuotaExceeded, SpawnFailed
from ..model import Launch
from ..pods import USER_ID, restricted_container, restricted_pod
from .kube_api import FORBIDDEN
from .manifests import launch_annotations, launch_labels
from .namespaces import Namespaces
from .spawner import LaunchSpawnerMixin, Refused

_COMPONENT = "server"
_SECRETS = ("JUPYTER_TOKEN", "JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN")
"""Variables of JupyterHub's and ours that let somebody in; what was provisioned is secret as a whole."""
_NOT_YET = ("status unknown for quota", "error looking up service account")
"""Why a new namespace refuses pods for some milliseconds: its quota is not counted yet, or it has no account yet."""


class KubeLaunchSpawner(LaunchSpawnerMixin, KubeSpawner):
    """A server as a pod of the launch's image, in the launch's namespace."""

    surroundings = Instance(Namespaces, help="Makes and removes what surrounds a launch's server.", config=True)

    enable_user_namespaces = True
    """One watch over all namespaces, and servers are found again in the one that their state names."""

    async def prepare(self, launch: Launch) -> None:
        """Make the launch's surroundings, and hold the pod about to start to the launch's grant."""
        await super().prepare(launch)
        site = self.surroundings.site
        self.namespace = site.namespace(launch)
        self.pod_name = f"server-{launch.id}"
        self.image, self.image_pull_policy = launch.environment.prefix, site.pull_policy
        self.image_pull_secrets = [site.secret("pull", launch)] if site.pull_login else []
        self._hold(launch)
        self._place(launch)
        await self.surroundings.make(launch)

    def _hold(self, launch: Launch) -> None:
        """Set what the pod may take, and how little it may do."""
        grant, allowed = launch.grant.server, self.surroundings.site.allowances
        self.cpu_guarantee, self.mem_guarantee = grant.cpu, grant.memory_bytes
        self.extra_resource_limits = {"ephemeral-storage": str(allowed.disk_bytes)}
        self.extra_resource_guarantees = {"ephemeral-storage": str(allowed.disk_request_bytes)}
        held = restricted_pod()
        self.uid = self.gid = self.fs_gid = USER_ID
        self.allow_privilege_escalation = False
        self.pod_security_context = held.pop("securityContext")
        self.container_security_context = restricted_container()["securityContext"]
        # whatever the hub's own end, a pod ends when its launch is too old
        held["activeDeadlineSeconds"] = grant.max_age_seconds + self.start_timeout
        self.extra_pod_config = held
        self.automount_service_account_token = False

    def _place(self, launch: Launch) -> None:
        """Set where the pod runs, and what tells everybody whose it is."""
        where = self.surroundings.site.pods(launch)
        self.node_selector = dict(where.node_selector)
        self.tolerations = [dict(each) for each in where.tolerations]
        self.priority_class_name = where.priority_class
        self.extra_labels = {**launch_labels(launch), "app.kubernetes.io/component": _COMPONENT}
        self.extra_annotations = launch_annotations(launch)
        secrets = [self.surroundings.site.secret(kind, launch) for kind in ("session", "storage")]
        optional = [False, launch.grant.storage is None]
        sources = [
            {"secretRef": {"name": name, "optional": missing}} for name, missing in zip(secrets, optional, strict=True)
        ]
        self.extra_container_config = {"envFrom": sources}

    def _expand_all(self, src: Any) -> Any:
        """Leave texts as they are: KubeSpawner would take braces in a repository's address for its own templates."""
        return src

    async def keep(self, storage: Mapping[str, str]) -> None:
        """Write the Secret that the launch's workers take their storage from."""
        assert self.launch is not None
        await self.surroundings.keep("storage", self.launch, storage)

    async def discard(self, launch: Launch) -> None:
        """Remove what surrounded the server."""
        await self.surroundings.remove(launch)

    def get_env(self) -> dict[str, str]:
        """Return what stands in the pod's own description: what is no secret."""
        return {name: value for name, value in super().get_env().items() if name not in self._secret_names()}

    def _secret_names(self) -> set[str]:
        return {*_SECRETS, *self._provisioned.environment}

    def _session(self) -> dict[str, str]:
        """Return the variables of the Secret `session`; those of storage come from a Secret of their own."""
        secret = self._secret_names() - set(self._provisioned.storage)
        return {name: value for name, value in super().get_env().items() if name in secret}

    def get_args(self) -> list[str]:
        """Return a plain Jupyter server's arguments; its token is in the environment."""
        assert self.server is not None
        return [
            "--ServerApp.ip=0.0.0.0",
            f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0",
            f"--ServerApp.base_url={self.server.base_url}",
            "--ServerApp.default_url=/lab",
            "--ServerApp.open_browser=False",
            "--ServerApp.trust_xheaders=True",
            "--ServerApp.allow_remote_access=True",
            *self.args,
        ]

    def start(self) -> asyncio.Future[str]:
        """Start the server; the future tells where it answers, once its cluster has settled."""
        self._start_future = asyncio.ensure_future(self._started())
        return self._start_future

    async def _started(self) -> str:
        assert self.launch is not None
        self.cmd = [*self.launch.environment.start, "python", "-m", "jupyterlab"]
        await self.surroundings.keep("session", self.launch, self._session())
        try:
            url: str = await self._start()
        except ApiException as error:
            self.log.error("Kubernetes refused the pod of %s: %s", self._log_name, error.reason)
            raise Refused(_refused(error)) from None
        except TimeoutError:
            raise Refused(self._too_slow()) from None
        await self.settle()
        return url

    def _too_slow(self) -> SpawnFailed:
        last = [str(event["message"]) for event in self.events[-2:]]
        seconds = self.start_timeout
        return SpawnFailed(f"The session's server did not start within {seconds} s.", "\n".join(last))

    async def _make_create_pod_request(self, pod: Any, request_timeout: float) -> bool:
        """Ask for the pod, again where the namespace is too new to be asked."""
        try:
            made: bool = await super()._make_create_pod_request(pod, request_timeout)
        except ApiException as error:
            if error.status == FORBIDDEN and any(text in str(error.body) for text in _NOT_YET):
                return False
            raise
        return made

    async def _ensure_namespace(self) -> None:
        """Leave it to `prepare`, which has made it with all that bounds it."""

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the launch page shows: what was given, then what Kubernetes says of the pod."""
        async for event in super().progress():
            yield event
        async for event in KubeSpawner.progress(self):
            raw = event.get("raw_event")
            yield {
                "progress": 50 + event.get("progress", 0) // 3,
                "message": raw["message"] if raw else event["message"],
            }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up a server that outlived the hub, with the limits it was started with."""
        super().load_state(state)
        if self.launch is not None:
            self.image = self.launch.environment.prefix


def _refused(error: ApiException) -> QuotaExceeded | SpawnFailed:
    if error.status == FORBIDDEN and "exceeded quota" in str(error.body):
        return QuotaExceeded("This launch's quota has no room for its server.", "Tell the operator of this binder.")
    return SpawnFailed(
        "Kubernetes refused the session's server.", "Try again in a minute; if it happens again, tell the operator."
    )
