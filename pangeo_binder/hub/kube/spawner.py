"""Starts servers as pods of a Kubernetes cluster, each limited to its grant.

KubeSpawner creates the pod and watches it; `launch_objects` creates the launch's other objects before the pod, and
deletes them after it. Runs in the hub. The launch's NetworkPolicy blocks clouds' metadata addresses: KubeSpawner's own
way needs a privileged init container, which no launch may have.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from kubernetes_asyncio.client.rest import ApiException
from kubespawner import KubeSpawner
from traitlets import Bool, Instance, default

from ...errors import SpawnFailed, UserError
from ...kube.api import log_text, refusal_by
from ...kube.labels import COMPONENT_LABEL, launch_annotations, launch_labels
from ...kube.placement import shared_name
from ...kube.pods import USER_ID, restricted_container, restricted_pod
from ...kube.refusals import Refusal
from ...model import Launch
from ..spawner import LaunchSpawnerMixin, Refused, growing_pauses
from .launch_objects import LaunchObjects
from .pod_status import event_message, refusal_failure, start_failure, timeout_failure
from .reflectors import SELDOM
from .settings import KubeSettings

T = TypeVar("T")

_COMPONENT = "server"
_SECRETS = ("JUPYTER_TOKEN", "JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN")
"""Variables of JupyterHub's and ours that hold credentials; all provisioned variables are secret."""
_POLL_SECONDS = 0.5
_REPORT_SECONDS = 5
"""How much earlier than the hub this gives up: the hub would report only a timeout, without its reason."""
_END_SECONDS = 10
"""How long a server may take to end when its namespace is deleted; it has nothing to save."""


class KubeLaunchSpawner(LaunchSpawnerMixin, KubeSpawner):
    """A server as a pod of the launch's image, in the launch's namespace."""

    launch_objects = Instance(LaunchObjects, help="Creates and deletes a launch's other objects.", config=True)
    # no launch has a volume claim, and the hub may not delete any
    delete_pvc = Bool(False, help="Whether to delete the volume claim of a user that is deleted.", config=True)
    _refusal: Refusal | None = None
    """The API server's last refusal of the pod, while it is temporary."""

    @property
    def _settings(self) -> KubeSettings:
        return self.launch_objects.settings

    @property
    def enable_user_namespaces(self) -> bool:
        """Whether one watch covers all namespaces; with a shared namespace the hub may watch only that one."""
        return not self._settings.placement.shared

    @default("namespace")
    def _namespace_default(self) -> str:
        return str(self._settings.placement.shared or super()._namespace_default())

    async def prepare(self, launch: Launch) -> None:
        """Create the launch's objects, and limit the pod to the launch's grant."""
        await super().prepare(launch)
        settings, placement = self._settings, self._settings.placement
        self.namespace = placement.namespace(launch)
        self.pod_name = shared_name("server", launch.id)
        self.image, self.image_pull_policy = launch.image, settings.pull_policy
        self.image_pull_secrets = [placement.secret("pull", launch)] if settings.pull_login else []
        self._limit(launch)
        self._place(launch)
        await self.launch_objects.make(launch)

    def _limit(self, launch: Launch) -> None:
        """Set the pod's resources and its security settings."""
        grant, allowed = launch.grant.server, self._settings.allowances
        self.cpu_guarantee, self.mem_guarantee = grant.cpu, grant.memory_bytes
        self.extra_resource_limits = {"ephemeral-storage": str(allowed.disk_bytes)}
        self.extra_resource_guarantees = {"ephemeral-storage": str(allowed.disk_request_bytes)}
        pod = restricted_pod()
        self.uid = self.gid = self.fs_gid = USER_ID
        self.allow_privilege_escalation = False
        self.pod_security_context = pod.pop("securityContext")
        self.container_security_context = restricted_container()["securityContext"]
        # a pod ends when its launch is too old, even if no hub runs
        pod["activeDeadlineSeconds"] = grant.max_age_seconds + self.start_timeout
        # never restart: what the server wrote is lost with its container, notebooks included
        pod["restartPolicy"], pod["terminationGracePeriodSeconds"] = "Never", _END_SECONDS
        self.extra_pod_config = pod
        self.automount_service_account_token = False

    def _place(self, launch: Launch) -> None:
        """Set the pod's nodes, its labels and its Secrets."""
        nodes = self._settings.placement.pods(launch)
        self.node_selector = dict(nodes.node_selector)
        self.tolerations = [dict(each) for each in nodes.tolerations]
        self.priority_class_name = nodes.priority_class
        self.extra_labels = {**launch_labels(launch), COMPONENT_LABEL: _COMPONENT}
        self.extra_annotations = launch_annotations(launch)
        secrets = [self._settings.placement.secret(kind, launch) for kind in ("session", "storage")]
        optional = [False, launch.grant.storage is None]
        sources = [
            {"secretRef": {"name": name, "optional": missing}} for name, missing in zip(secrets, optional, strict=True)
        ]
        self.extra_container_config = {"envFrom": sources}

    async def load_user_options(self) -> None:
        """Ignore all options but the ticket: KubeSpawner would fail on the name of a profile it does not know."""

    def _expand_all(self, src: Any) -> Any:
        """Return `src` unchanged: KubeSpawner would expand braces in a repository's address as its own templates."""
        return src

    async def keep(self, storage: Mapping[str, str]) -> None:
        """Write the Secret from which the launch's workers get their storage variables."""
        assert self.launch is not None
        await self.launch_objects.keep("storage", self.launch, storage)

    async def discard(self, launch: Launch) -> None:
        """Delete the launch's objects."""
        await self.launch_objects.remove(launch)

    def get_env(self) -> dict[str, str]:
        """Return the variables in the pod's own manifest: those that are not secret.

        `$` is escaped: Kubernetes would replace `$(NAME)` in a repository's address or ref, also by a secret variable.
        """
        secret = self._secret_names()
        return {name: value.replace("$", "$$") for name, value in super().get_env().items() if name not in secret}

    def _secret_names(self) -> set[str]:
        return {*_SECRETS, *self._provisioned.environment}

    def _session(self) -> dict[str, str]:
        """Return the variables of the Secret `session`; storage variables have a Secret of their own."""
        secret = self._secret_names() - set(self._provisioned.storage)
        return {name: value for name, value in super().get_env().items() if name in secret}

    def get_args(self) -> list[str]:
        """Return the arguments of a plain Jupyter server; its token is in the environment."""
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
            *self.origin_args(),
            *self.args,
        ]

    def start(self) -> asyncio.Future[str]:
        """Start the server; the future returns its address once its Dask cluster has started, too."""
        self.continue_trace(self.launch)
        self._start_future = asyncio.ensure_future(self._started())
        return self._start_future

    async def _started(self) -> str:
        assert self.launch is not None
        # the script, as BinderHub: `python -m` would import the repository's `random.py` for the standard library's
        self.cmd = ["jupyter-lab"]
        seconds = self.start_timeout - _REPORT_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await self.launch_objects.keep("session", self.launch, self._session())
                url = await self._unless_it_fails(self._start())
                await self._unless_it_fails(_until_listening(url))
                await self.settle()
        except UserError as error:
            raise Refused(error) from None
        except TimeoutError:
            raise Refused(self._timeout_failure(seconds)) from None
        except ApiException as error:
            self.log.error("Kubernetes refused the pod of %s: %s", self._log_name, log_text(error))
            raise Refused(refusal_failure(refusal_by(error))) from None
        except aiohttp.ClientError:
            raise Refused(SpawnFailed("Kubernetes does not answer the hub.", "Try again in a minute.")) from None
        return url

    def _timeout_failure(self, seconds: int) -> UserError:
        """Return why the server did not start within `seconds`."""
        pod = self._pod()
        if pod is None and self._refusal is not None:
            return refusal_failure(self._refusal)
        return start_failure(pod) or timeout_failure(pod, seconds)

    def _pod(self) -> dict[str, Any] | None:
        """Return the pod as Kubernetes described it last."""
        watch = self.pod_reflector
        return watch.pods.get(f"{self.namespace}/{self.pod_name}") if watch else None

    async def _unless_it_fails(self, coming: Coroutine[Any, Any, T]) -> T:
        """Return the result of `coming`; raise SpawnFailed as soon as the pod can never run."""
        task = asyncio.ensure_future(coming)
        try:
            while not (await asyncio.wait([task], timeout=_POLL_SECONDS))[0]:
                if failure := start_failure(self._pod()):
                    raise failure
            return task.result()
        finally:
            task.cancel()

    async def _make_create_pod_request(self, pod: Any, request_timeout: float) -> bool:
        """Create the pod; return False, for another try, after a temporary refusal such as that of a new namespace."""
        try:
            made: bool = await super()._make_create_pod_request(pod, request_timeout)
        except ApiException as error:
            if not refusal_by(error).is_temporary:
                raise
            self._refusal = refusal_by(error)
            return False
        return made

    async def _ensure_namespace(self) -> None:
        """Do nothing: `prepare` has created the namespace with all that bounds it."""

    async def _start_reflector(self, kind: str, reflector_class: type[Any], *args: Any, **how: Any) -> Any:
        """Watch pods and events without listing them every ten seconds."""
        return await super()._start_reflector(kind, SELDOM.get(reflector_class, reflector_class), *args, **how)

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield messages for the launch page: the grant, then Kubernetes' events on the pod."""
        async for event in super().progress():
            yield event
        async for event in KubeSpawner.progress(self):
            if message := event_message(event.get("raw_event") or {}):
                yield {"progress": 50 + event["progress"] // 3, "message": message}

    def load_state(self, state: dict[str, Any]) -> None:
        """Adopt a server that outlived the hub, with the limits it was started with."""
        super().load_state(state)
        if self.launch is not None:
            self.image = self.launch.image


async def _until_listening(url: str) -> None:
    """Return once a process listens at `url`; the hub's own wait polls seldom, and does not watch the pod."""
    address = urlsplit(url)
    for pause in growing_pauses():
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.close()
            return
        await asyncio.sleep(pause)
