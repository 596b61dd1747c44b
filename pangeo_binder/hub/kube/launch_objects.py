"""Creates and deletes the Kubernetes objects of a launch other than its pods: its namespace and all that bounds it.

Runs in the hub. What the objects contain is decided in `manifests`, when they are created in `spawner`. If one of them
is refused, none is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any

from kubernetes_asyncio.client.rest import ApiException

from ...errors import SpawnFailed
from ...kube.api import NO_ANSWER, KubeApi, delete_if_present, log_text, refusal_by, retry_temporary
from ...kube.placement import SECRETS, shared_name
from ...kube.refusals import Why
from ...model import Launch
from .manifests import Manifest, limit_range, namespace, network_policy, pull_secret, quota, role_binding, secret
from .settings import KubeSettings

log = logging.getLogger(__name__)

_REQUEST_SECONDS = 30
_RETRY_SECONDS = 10.0
"""How long an object is created again after a temporary refusal."""


class LaunchObjects:
    """The objects of all launches; one for the life of the hub."""

    def __init__(self, settings: KubeSettings, api: KubeApi) -> None:
        self.settings = settings
        self.api = api

    def __deepcopy__(self, memo: dict[int, Any]) -> LaunchObjects:
        """Return this object itself: traitlets copies configuration values, and connections have to be shared."""
        return self

    async def make(self, launch: Launch) -> None:
        """Create all that bounds `launch`, its namespace first. Raises SpawnFailed, with nothing left behind."""
        try:
            if self.settings.placement.shared:
                await _all(await self._common(launch))
            else:
                await self._own(launch)
        except (ApiException, *NO_ANSWER) as error:
            log.error("Cannot create the objects of launch %s: %s", launch.id, _reason(error))
            await self.remove(launch)
            raise _spawn_failure(error) from None

    async def _own(self, launch: Launch) -> None:
        settings, name, core = self.settings, self.settings.placement.namespace(launch), await self.api.core()
        rbac = await self.api.rbac()
        await _create(core.create_namespace, namespace(launch, settings))
        # API servers take a moment to notice a new RoleBinding, so these are created before the rest
        for binding in settings.bindings:
            await _create(rbac.create_namespaced_role_binding, name, role_binding(launch, binding))
        bounds = [
            _create(core.create_namespaced_resource_quota, name, quota(launch, settings)),
            _create(core.create_namespaced_limit_range, name, limit_range(launch, settings)),
        ]
        await _all([*bounds, *await self._common(launch)])

    async def _common(self, launch: Launch) -> list[Coroutine[Any, Any, None]]:
        """Return the requests that both layouts need."""
        settings, name = self.settings, self.settings.placement.namespace(launch)
        core, networking = await self.api.core(), await self.api.networking()
        requests = []
        if settings.network_policies:
            policy = network_policy(launch, settings)
            requests.append(_create(networking.create_namespaced_network_policy, name, policy))
        if settings.pull_login:
            requests.append(_create(core.create_namespaced_secret, name, pull_secret(launch, settings)))
        return requests

    async def keep(self, kind: str, launch: Launch, variables: Mapping[str, str]) -> None:
        """Write the variables of a launch's Secret `kind` (`session`, `storage`). Raises SpawnFailed."""
        core, settings = await self.api.core(), self.settings
        manifest = secret(kind, launch, settings, variables)
        try:
            await _create(core.create_namespaced_secret, settings.placement.namespace(launch), manifest)
        except (ApiException, *NO_ANSWER) as error:
            log.error("Cannot create the Secret %s of launch %s: %s", kind, launch.id, _reason(error))
            raise _spawn_failure(error) from None

    async def remove(self, launch: Launch) -> None:
        """Delete all objects of `launch`; the reaper deletes what this cannot."""
        placement = self.settings.placement
        try:
            if placement.shared:
                await remove_shared(self.api, placement.shared, launch.id)
            else:
                core = await self.api.core()
                deletion = core.delete_namespace(placement.namespace(launch), _request_timeout=_REQUEST_SECONDS)
                await delete_if_present(deletion)
        except (ApiException, *NO_ANSWER) as error:
            log.warning("Leaving the objects of launch %s to the reaper: %s", launch.id, _reason(error))


async def remove_shared(api: KubeApi, namespace: str, launch_id: str) -> None:
    """Delete a launch's objects in a shared namespace. Raises ApiException and what connections raise."""
    core, networking = await api.core(), await api.networking()
    for kind in SECRETS:
        await delete_if_present(core.delete_namespaced_secret(shared_name(kind, launch_id), namespace))
    # the policy goes last: without it a pod that still runs would be open, and the reaper would not find the rest
    policy = networking.delete_namespaced_network_policy(shared_name("launch", launch_id), namespace)
    await delete_if_present(policy)


async def _create(create: Callable[..., Awaitable[Any]], *where_and_what: str | Manifest) -> None:
    """Create an object; one that exists already is from a request whose answer was lost."""
    try:
        await retry_temporary(lambda: create(*where_and_what, _request_timeout=_REQUEST_SECONDS), _RETRY_SECONDS)
    except ApiException as error:
        if refusal_by(error).why is not Why.EXISTS:
            raise


async def _all(requests: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all, then raise the first failure: nothing may be created after the removal that follows a failure."""
    for outcome in await asyncio.gather(*requests, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _reason(error: Exception) -> str:
    return log_text(error) if isinstance(error, ApiException) else type(error).__name__


def _spawn_failure(error: Exception) -> SpawnFailed:
    if not isinstance(error, ApiException):
        return SpawnFailed("Kubernetes does not answer the hub.", "Try again in a minute.")
    refusal = refusal_by(error)
    if refusal.why is Why.PERMISSION:
        return SpawnFailed(
            "The hub has no permission to create what this launch needs in Kubernetes.",
            "Tell the operator of this binder.",
        )
    return SpawnFailed(
        refusal.sentence("what this launch needs before it can start"),
        "Try again in a minute; if it happens again, tell the operator of this binder.",
    )
