"""Starts servers as pods of a Kubernetes cluster: each in surroundings of its own that bound it, and held to its grant.

KubeSpawner makes the pod and watches it; `namespaces` makes what surrounds it before the pod, and removes it after.
Runs in the hub. Clouds' metadata addresses are closed by the launch's NetworkPolicy: KubeSpawner's own way needs a
privileged init container, which no launch may have.
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
from traitlets import Instance, default

from ...errors import SpawnFailed, UserError
from ...kube.api import FORBIDDEN
from ...kube.pods import USER_ID, restricted_container, restricted_pod
from ...model import Launch
from ..spawner import LaunchSpawnerMixin, Refused
from .manifests import launch_annotations, launch_labels
from .namespaces import Namespaces
from .pod_status import is_not_yet, news, refused, too_slow, trouble
from .reflectors import SELDOM
from .settings import shared_name

T = TypeVar("T")

_COMPONENT = "server"
_SECRETS = ("JUPYTER_TOKEN", "JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN")
"""Variables of JupyterHub's and ours that let somebody in; what was provisioned is secret as a whole."""
_LOOK_SECONDS = 0.5
_TELL_SECONDS = 5
"""How much earlier than the hub this gives up, which says only that it took too long."""
_END_SECONDS = 10
"""How long a server gets to end by itself where its namespace is deleted; it has nothing to save."""


class KubeLaunchSpawner(LaunchSpawnerMixin, KubeSpawner):
    """A server as a pod of the launch's image, in the launch's namespace."""

    surroundings = Instance(Namespaces, help="Makes and removes what surrounds a launch's server.", config=True)

    @property
    def enable_user_namespaces(self) -> bool:
        """Whether there is one watch over all namespaces; in a shared one the hub has no right to more than that."""
        return not self.surroundings.site.shared_namespace

    @default("namespace")
    def _namespace_default(self) -> str:
        return str(self.surroundings.site.shared_namespace or super()._namespace_default())

    async def prepare(self, launch: Launch) -> None:
        """Make the launch's surroundings, and hold the pod about to start to the launch's grant."""
        await super().prepare(launch)
        site = self.surroundings.site
        self.namespace = site.namespace(launch)
        self.pod_name = shared_name("server", launch.id)
        self.image, self.image_pull_policy = launch.image, site.pull_policy
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
        # a second start would find neither its files nor its notebooks: what it wrote goes with the container
        held["restartPolicy"], held["terminationGracePeriodSeconds"] = "Never", _END_SECONDS
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
        """Return what stands in the pod's own description: what is no secret.

        Kubernetes would put other variables, secret ones too, where a repository's address or ref says `$(NAME)`.
        """
        secret = self._secret_names()
        return {name: value.replace("$", "$$") for name, value in super().get_env().items() if name not in secret}

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
        self.cmd = ["python", "-m", "jupyterlab"]
        seconds = self.start_timeout - _TELL_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await self.surroundings.keep("session", self.launch, self._session())
                url = await self._while_it_may(self._start())
                await self._while_it_may(_listens(url))
                await self.settle()
        except UserError as error:
            raise Refused(error) from None
        except TimeoutError:
            raise Refused(trouble(self._pod()) or too_slow(self._pod(), seconds)) from None
        except ApiException as error:
            self.log.error("Kubernetes refused the pod of %s: %s", self._log_name, error.reason)
            raise Refused(refused(error.status, str(error.body))) from None
        except aiohttp.ClientError:
            raise Refused(SpawnFailed("Kubernetes does not answer the hub.", "Try again in a minute.")) from None
        return url

    def _pod(self) -> dict[str, Any] | None:
        """Return the pod as Kubernetes described it last."""
        watch = self.pod_reflector
        return watch.pods.get(f"{self.namespace}/{self.pod_name}") if watch else None

    async def _while_it_may(self, coming: Coroutine[Any, Any, T]) -> T:
        """Return what `coming` does; raise SpawnFailed as soon as the pod can never run."""
        task = asyncio.ensure_future(coming)
        try:
            while not (await asyncio.wait([task], timeout=_LOOK_SECONDS))[0]:
                if failed := trouble(self._pod()):
                    raise failed
            return task.result()
        finally:
            task.cancel()

    async def _make_create_pod_request(self, pod: Any, request_timeout: float) -> bool:
        """Ask for the pod, again where the namespace is too new to be asked."""
        try:
            made: bool = await super()._make_create_pod_request(pod, request_timeout)
        except ApiException as error:
            if error.status == FORBIDDEN and is_not_yet(str(error.body)):
                return False
            raise
        return made

    async def _ensure_namespace(self) -> None:
        """Leave it to `prepare`, which has made it with all that bounds it."""

    async def _start_reflector(self, kind: str, reflector_class: type[Any], *args: Any, **how: Any) -> Any:
        """Watch pods and events without listing them every ten seconds."""
        return await super()._start_reflector(kind, SELDOM.get(reflector_class, reflector_class), *args, **how)

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the launch page shows: what was given, then what Kubernetes says of the pod."""
        async for event in super().progress():
            yield event
        async for event in KubeSpawner.progress(self):
            if told := news(event.get("raw_event") or {}):
                yield {"progress": 50 + event["progress"] // 3, "message": told}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up a server that outlived the hub, with the limits it was started with."""
        super().load_state(state)
        if self.launch is not None:
            self.image = self.launch.image


async def _listens(url: str) -> None:
    """Return once somebody listens at `url`; the hub's own wait looks seldom, and not at the pod."""
    address = urlsplit(url)
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.close()
            return
        await asyncio.sleep(_LOOK_SECONDS)
