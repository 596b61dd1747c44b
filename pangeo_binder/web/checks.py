"""The checks of `/health` that send no request of their own: policy, builds, seats, and how full the binder is.

Names and keys are BinderHub's where it has them (`health.py`): federations of binders read them. Binder process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from ..builders.base import Builder
from ..errors import PolicyInvalid, UserError
from ..launch.admission import Admission
from ..policy.load import load_policy
from ..policy.model import Policy
from .context import Check
from .health import Probe, url_probe

_SERVICES = {"hub": "JupyterHub API", "gateway": "Dask gateway", "storage": "Storage"}
QUOTA = "Pod quota"
_STALE_SECONDS = 30
"""A seat that was not renewed for this long is lost (`hub.admissions`)."""


def url_probes(urls: Mapping[str, str]) -> dict[str, Probe]:
    """Return a check for each service's URL, under BinderHub's name for the service if it has one."""
    named = {_SERVICES.get(service, service): url for service, url in urls.items()}
    return {service: url_probe(service, url) for service, url in named.items()}


def builder_probe(builder: Builder) -> Probe:
    """Return a check of what `builder` needs for the next build."""

    async def check() -> Check:
        try:
            await builder.check()
        except UserError as error:
            return Check(builder.health_name, ok=False, message=error.message)
        return Check(builder.health_name, ok=True)

    return check


def policy_probe(path: Path, loaded: Policy) -> Probe:
    """Return a check of the policy file: whether it is what this process uses. Only informs."""

    async def check() -> Check:
        try:
            current = await asyncio.to_thread(load_policy, path)
        except PolicyInvalid:
            message = "The file has mistakes. The binder uses what it read at its start."
            return Check("Policy", ok=False, message=message, informs=True)
        if current != loaded:
            message = "The file has changed since the binder started. Restart the binder to use it."
            return Check("Policy", ok=False, message=message, informs=True)
        return Check("Policy", ok=True, informs=True)

    return check


def seats_probe(admission: Admission) -> Probe:
    """Return a check that the hub accepts this binder's reports, without which launches lose their seats."""

    async def check() -> Check:
        age = admission.report_age_seconds
        if age is None or age > _STALE_SECONDS:
            return Check("Seats", ok=False, message="The hub accepts no report of this binder.")
        return Check("Seats", ok=True)

    return check


def quota_probe(admission: Admission, builds: Callable[[], int]) -> Probe:
    """Return how full this binder is, by the policy's total of servers. Only informs, as in BinderHub."""

    async def check() -> Check:
        servers, running, quota = admission.servers, builds(), admission.total_servers
        counts = {"total_pods": servers + running, "build_pods": running, "user_pods": servers, "quota": quota}
        return Check(QUOTA, ok=quota is None or servers < quota, counts=counts, informs=True)

    return check
