"""Reads why Kubernetes refused to make something, and says it as a sentence. Pure.

What the API server says goes to the log alone: it names objects and limits that are not the launch's. Used by both
processes of the gateway. The texts are those of Kubernetes' admission (quota, namespace lifecycle), which have no
machine-readable form: https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum

CLUSTER_COUNT = "count/daskclusters.gateway.dask.org"
"""What a ResourceQuota calls the number of a namespace's clusters."""

_QUOTA = re.compile(r"exceeded quota: (?P<name>[^,]+), requested: (?P<requested>.*), used: .*, limited: ")
_NOT_YET = "status unknown for quota"
_PERMISSION = re.compile(r' is forbidden: User "[^"]*" cannot ')
_WORDS = {"limits.cpu": "cores", "requests.cpu": "cores", "limits.memory": "memory", "requests.memory": "memory"}
_WORDS |= {"cpu": "cores", CLUSTER_COUNT: "clusters"}


class Why(StrEnum):
    """Why something was refused."""

    QUOTA = "quota"
    """A ResourceQuota is used up; it may have room later."""
    ENDING = "ending"
    """The namespace is being deleted, or is gone."""
    NOT_YET = "not_yet"
    """The namespace is new and its quota is not counted yet; soon it is."""
    PERMISSION = "permission"
    """The gateway itself may not: the namespace is going, and its RoleBindings went first, or was not made in full."""
    RULES = "rules"
    """Anything else that Kubernetes does not allow, which waiting will not change."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal of the API server."""

    why: Why
    resources: tuple[str, ...] = ()
    """With QUOTA: what there is too little of, as the quota calls it (`limits.cpu`, `pods` …)."""

    def sentence(self, what: str) -> str:
        """Return for a person why `what` ("the scheduler …") could not be made."""
        if self.why is Why.QUOTA:
            return f"Kubernetes refused {what}, because the quota of {self._short()} is used up."
        if self.why is Why.ENDING:
            return f"Kubernetes refused {what}, because this session is ending."
        if self.why is Why.NOT_YET:
            return f"Kubernetes does not count this session's quota yet, so it refused {what}; try again in a minute."
        if self.why is Why.PERMISSION:
            return (
                f"Kubernetes does not let the gateway make {what}: this session is ending, or was not set up in full."
            )
        return f"Kubernetes' rules here do not allow {what}; the operator finds the reason in the gateway's log."

    def _short(self) -> str:
        words = dict.fromkeys(_WORDS.get(each, each) for each in self.resources)
        return " and ".join(words) or "its namespace"


def refusal_of(status: int | None, body: str | bytes | None) -> Refusal | None:
    """Return what an API server's answer with `status` and `body` refused, or None where it is another kind of error.

    Only 403 (admission and permissions) and 404 (the namespace) are refusals: the rest is worth another try.
    """
    if status not in (403, 404):
        return None
    message, causes = _said(body)
    if status == 404:
        return Refusal(Why.ENDING)
    if "NamespaceTerminating" in causes or "because it is being terminated" in message:
        return Refusal(Why.ENDING)
    if found := _QUOTA.search(message):
        return Refusal(Why.QUOTA, tuple(each.split("=")[0] for each in found["requested"].split(",")))
    if _NOT_YET in message:
        return Refusal(Why.NOT_YET)
    return Refusal(Why.PERMISSION if _PERMISSION.search(message) else Why.RULES)


def _said(body: str | bytes | None) -> tuple[str, set[str]]:
    """Return the message and the reasons of the causes in a Status; empty for any other body."""
    try:
        said = json.loads(body or "")
        causes = (said.get("details") or {}).get("causes") or ()
        return str(said.get("message", "")), {str(cause.get("reason")) for cause in causes}
    except (ValueError, AttributeError, TypeError):
        return "", set()
