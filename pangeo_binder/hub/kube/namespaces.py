"""Makes and removes what surrounds a launch's server in Kubernetes: its namespace and all that bounds it.

Runs in the hub. What is written is decided in `manifests`; when, in `kube`. Nothing is left where a part is refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any

import aiohttp
from kubernetes_asyncio.client.rest import ApiException

from ...errors import SpawnFailed
from ...kube.api import CONFLICT, FORBIDDEN, KubeApi, gone
from ...model import Launch
from .manifests import Manifest, limit_range, namespace, network_policy, pull_secret, quota, role_binding, secret
from .settings import SECRETS, KubeSettings, shared_name

log = logging.getLogger(__name__)

_REQUEST_SECONDS = 30


class Namespaces:
    """Surroundings of launches; one for the life of the hub."""

    def __init__(self, site: KubeSettings, api: KubeApi) -> None:
        self.site = site
        self.api = api

    def __deepcopy__(self, memo: dict[int, Any]) -> Namespaces:
        """Stay one object though traitlets copies configuration values: connections are shared."""
        return self

    async def make(self, launch: Launch) -> None:
        """Make all that bounds `launch`, its namespace first. Raises SpawnFailed, with nothing left behind."""
        try:
            if self.site.shared_namespace:
                await _all(await self._common(launch))
            else:
                await self._own(launch)
        except (ApiException, aiohttp.ClientError, TimeoutError) as error:
            log.error("No surroundings for launch %s: %s", launch.id, _reason(error))
            await self.remove(launch)
            raise _refused(error) from None

    async def _own(self, launch: Launch) -> None:
        site, place, core = self.site, self.site.namespace(launch), await self.api.core()
        rbac = await self.api.rbac()
        await self._make(core.create_namespace, namespace(launch, site))
        # API servers take a moment to notice who may do what, so this is said before all else
        for binding in site.bindings:
            await self._make(rbac.create_namespaced_role_binding, place, role_binding(launch, binding))
        bounds = [
            self._make(core.create_namespaced_resource_quota, place, quota(launch, site)),
            self._make(core.create_namespaced_limit_range, place, limit_range(launch, site)),
        ]
        await _all([*bounds, *await self._common(launch)])

    async def _common(self, launch: Launch) -> list[Coroutine[Any, Any, None]]:
        """Return what is to be written in either layout."""
        site, place = self.site, self.site.namespace(launch)
        core, networking = await self.api.core(), await self.api.networking()
        writes = []
        if site.network_policies:
            policy = network_policy(launch, site)
            writes.append(self._make(networking.create_namespaced_network_policy, place, policy))
        if site.pull_login:
            writes.append(self._make(core.create_namespaced_secret, place, pull_secret(launch, site)))
        return writes

    async def keep(self, kind: str, launch: Launch, variables: Mapping[str, str]) -> None:
        """Write the variables of a launch's Secret `kind` (`session`, `storage`). Raises SpawnFailed."""
        core, site = await self.api.core(), self.site
        try:
            await self._make(
                core.create_namespaced_secret, site.namespace(launch), secret(kind, launch, site, variables)
            )
        except (ApiException, aiohttp.ClientError, TimeoutError) as error:
            log.error("No Secret %s for launch %s: %s", kind, launch.id, _reason(error))
            raise _refused(error) from None

    async def remove(self, launch: Launch) -> None:
        """Have all that surrounds `launch` removed; what fails here is left to the reaper."""
        try:
            if self.site.shared_namespace:
                await remove_shared(self.api, self.site.shared_namespace, launch.id)
            else:
                core = await self.api.core()
                await gone(core.delete_namespace(self.site.namespace(launch), _request_timeout=_REQUEST_SECONDS))
        except (ApiException, aiohttp.ClientError, TimeoutError) as error:
            log.warning("The surroundings of launch %s are left to the reaper: %s", launch.id, _reason(error))

    async def _make(self, create: Callable[..., Awaitable[Any]], *where_and_what: str | Manifest) -> None:
        """Create an object; one that is there already is from an attempt whose answer was lost."""
        try:
            await create(*where_and_what, _request_timeout=_REQUEST_SECONDS)
        except ApiException as error:
            if error.status != CONFLICT:
                raise


async def remove_shared(api: KubeApi, namespace: str, launch_id: str) -> None:
    """Remove from a shared namespace what surrounded a launch. Raises ApiException and what connections raise."""
    core, networking = await api.core(), await api.networking()
    for kind in SECRETS:
        await gone(core.delete_namespaced_secret(shared_name(kind, launch_id), namespace))
    # the policy goes last: without it what still runs would be open, and the reaper would not find the rest
    await gone(networking.delete_namespaced_network_policy(shared_name("launch", launch_id), namespace))


async def _all(writes: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Return when all are done; raise the first failure only then, so that nothing is written after the removal."""
    for outcome in await asyncio.gather(*writes, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _reason(error: Exception) -> str:
    """Return what the log is told: never a body, which may repeat what was sent."""
    return f"{error.status} {error.reason}" if isinstance(error, ApiException) else type(error).__name__


def _refused(error: Exception) -> SpawnFailed:
    if not isinstance(error, ApiException):
        return SpawnFailed("Kubernetes does not answer the hub.", "Try again in a minute.")
    if error.status == FORBIDDEN:
        return SpawnFailed(
            "The hub may not make what this launch needs in Kubernetes.", "Tell the operator of this binder."
        )
    return SpawnFailed(
        "Kubernetes refused what this launch needs before it can start.",
        "Try again in a minute; if it happens again, tell the operator of this binder.",
    )
