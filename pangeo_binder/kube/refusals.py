"""Read why a Kubernetes API server refused a request, and say it in a sentence. Pure.

One table for hub, gateway and builds, so that all agree on whether waiting may help. The API server's own text goes to
the log at most: it names objects and limits that do not belong to the launch. Admission plugins give no reason that a
machine can read, so their texts are matched, each together with the HTTP statuses it comes with. Sources of the texts:
https://kubernetes.io/docs/concepts/policy/resource-quotas/ and the plugins in k8s.io/apiserver/pkg/admission and
plugin/pkg/admission. `tests/kube/test_kube_refusals.py` compares them with a real API server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

CLUSTER_COUNT: Final = "count/daskclusters.gateway.dask.org"
"""What a ResourceQuota calls the number of a namespace's dask-gateway clusters."""


class Why(StrEnum):
    """Why the API server refused a request."""

    QUOTA = "quota"
    """A ResourceQuota is used up; there is room again when something else ends."""
    QUOTA_NOT_COUNTED = "quota_not_counted"
    """The namespace is new, and the quota controller has not counted it yet."""
    QUOTA_CONFLICT = "quota_conflict"
    """Two requests were counted at once (https://github.com/kubernetes/kubernetes/issues/67761)."""
    NO_SERVICE_ACCOUNT = "no_service_account"
    """The namespace is new, and its service account does not exist yet."""
    ENDING = "ending"
    """The namespace is being deleted, or does not exist any more."""
    PERMISSION = "permission"
    """RBAC does not permit the request."""
    DENIED = "denied"
    """An admission webhook or a ValidatingAdmissionPolicy denied the request."""
    WEBHOOK_UNREACHABLE = "webhook_unreachable"
    """An admission webhook could not be called."""
    MISSING = "missing"
    """The object does not exist, or the API server does not know its kind."""
    EXISTS = "exists"
    """An object of this name exists already."""
    CONFLICT = "conflict"
    """The object has changed since it was read."""
    INVALID = "invalid"
    """The object is not valid."""
    UNAVAILABLE = "unavailable"
    """The API server is overloaded, limits the rate, or fails."""
    RULES = "rules"
    """Another admission plugin refused the request, such as Pod Security or a LimitRange."""


_NEW_NAMESPACE: Final = frozenset({Why.QUOTA_NOT_COUNTED, Why.QUOTA_CONFLICT, Why.NO_SERVICE_ACCOUNT})
_TEMPORARY: Final = _NEW_NAMESPACE | {Why.WEBHOOK_UNREACHABLE, Why.UNAVAILABLE}
_WORDS: Final = {"limits.cpu": "cores", "requests.cpu": "cores", "limits.memory": "memory", "requests.memory": "memory"}
_SHORT: Final = {**_WORDS, "cpu": "cores", CLUSTER_COUNT: "clusters"}
_LATER: Final = "Try again in a minute."
_OPERATOR: Final = "Ask the operator of this binder; the reason is in the log."
_SENTENCES: Final = {
    Why.QUOTA_NOT_COUNTED: "Kubernetes refused {what}, because it is still preparing this session's namespace.",
    Why.QUOTA_CONFLICT: "Kubernetes refused {what}, because it is still preparing this session's namespace.",
    Why.NO_SERVICE_ACCOUNT: "Kubernetes refused {what}, because it is still preparing this session's namespace.",
    Why.ENDING: "Kubernetes refused {what}, because this session is ending.",
    Why.PERMISSION: "Kubernetes does not permit {what}: this session is ending, or was not set up completely.",
    Why.DENIED: "The rules of this Kubernetes cluster do not allow {what}.",
    Why.RULES: "The rules of this Kubernetes cluster do not allow {what}.",
    Why.WEBHOOK_UNREACHABLE: "Kubernetes refused {what}, because an admission webhook of the cluster does not answer.",
    Why.MISSING: "Kubernetes refused {what}, because something it needs does not exist.",
    Why.EXISTS: "Kubernetes refused {what}, because it exists already.",
    Why.CONFLICT: "Kubernetes refused {what}, because it was changed at the same time.",
    Why.INVALID: "Kubernetes refused {what}, because its description is not valid.",
    Why.UNAVAILABLE: "Kubernetes is too busy for {what}, or does not work now.",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the API server refused one request."""

    why: Why
    resources: tuple[str, ...] = ()
    """With QUOTA: what is used up, under the quota's names (`limits.cpu`, `pods` …)."""

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may soon be accepted, although nobody changes or ends anything."""
        return self.why in _TEMPORARY

    @property
    def hint(self) -> str:
        """What a person can do; empty if the sentence is enough."""
        if self.why in (Why.QUOTA, Why.ENDING):
            return ""
        return _LATER if self.is_temporary or self.why is Why.CONFLICT else _OPERATOR

    def sentence(self, what: str) -> str:
        """Return for a person why `what` ("the scheduler …") was refused; it names no object and no limit."""
        if self.why is Why.QUOTA:
            words = dict.fromkeys(_SHORT.get(each, each) for each in self.resources)
            return f"Kubernetes refused {what}, because the quota of {' and '.join(words)} is used up."
        return _SENTENCES[self.why].format(what=what)

    def explanation(self, what: str) -> str:
        """Return the sentence and the hint as one text."""
        return f"{self.sentence(what)} {self.hint}".rstrip()


@dataclass(frozen=True, slots=True)
class _Row:
    """A text of the API server's, and the HTTP statuses it comes with; none for any status."""

    why: Why
    text: re.Pattern[str]
    statuses: frozenset[int] = frozenset()

    def fits(self, status: int | None, message: str) -> re.Match[str] | None:
        """Return the match if `message` has the text; `status` is None for a message that is reported without one."""
        return self.text.search(message) if status is None or not self.statuses or status in self.statuses else None


def _row(why: Why, text: str, *statuses: int) -> _Row:
    return _Row(why, re.compile(text), frozenset(statuses))


# The first row that fits wins. A webhook denies first, because the rest of its text is its author's.
_TABLE: Final = (
    _row(Why.DENIED, r'^admission webhook "[^"]*" denied the request'),
    _row(Why.WEBHOOK_UNREACHABLE, r'^Internal error occurred: failed calling webhook "', 500),
    _row(Why.DENIED, r"ValidatingAdmissionPolicy '[^']*' with binding '[^']*' denied request", 401, 403, 413, 422),
    _row(Why.ENDING, r"because it is being terminated", 403),
    _row(Why.QUOTA, r"exceeded quota: [^,]+, requested: (?P<requested>.*?), used: ", 403),
    _row(Why.QUOTA_NOT_COUNTED, r"status unknown for quota", 403),
    _row(Why.QUOTA_CONFLICT, r"Operation cannot be fulfilled on resourcequotas", 403, 409),
    _row(Why.NO_SERVICE_ACCOUNT, r"error looking up service account", 403),
    _row(Why.PERMISSION, r' is forbidden: User "[^"]*" cannot ', 403),
    _row(Why.ENDING, r'^namespaces "[^"]*" not found', 404),
)
_STATUSES: Final = {
    400: Why.INVALID,
    401: Why.PERMISSION,
    403: Why.RULES,
    404: Why.MISSING,
    409: Why.CONFLICT,
    413: Why.INVALID,
    415: Why.INVALID,
    422: Why.INVALID,
    429: Why.UNAVAILABLE,
}


def refusal_of(status: int | None, body: str | bytes | None) -> Refusal:
    """Return what an API server's answer with the HTTP `status` and `body` means; `body` is a Status object, or not."""
    answer = _status_object(body)
    if found := _found(status or 0, answer.message):
        return found
    if "NamespaceTerminating" in answer.causes:
        return Refusal(Why.ENDING)
    if answer.reason == "AlreadyExists":
        return Refusal(Why.EXISTS)
    return Refusal(_STATUSES.get(status or 0, Why.RULES if 400 <= (status or 0) < 500 else Why.UNAVAILABLE))


def refusal_in(message: str) -> Refusal | None:
    """Return the refusal that a controller reports in `message` (in an object's status), or None if there is none."""
    return _found(None, message)


def _found(status: int | None, message: str) -> Refusal | None:
    for row in _TABLE:
        if match := row.fits(status, message):
            return Refusal(row.why, _resources(match.groupdict().get("requested", "")))
    return None


def _resources(requested: str) -> tuple[str, ...]:
    """Return the names in `limits.cpu=1,pods=1`."""
    return tuple(each.split("=")[0] for each in requested.split(",") if each)


@dataclass(frozen=True, slots=True)
class _StatusObject:
    """The parts of an API server's Status that say why (`meta/v1.Status`)."""

    message: str
    reason: str = ""
    causes: frozenset[str] = frozenset()


def _status_object(body: str | bytes | None) -> _StatusObject:
    """Return the Status in `body`; any other body, such as a proxy's page, is the message itself."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body or ""
    try:
        status = json.loads(text)
        causes: Iterable[Any] = (status.get("details") or {}).get("causes") or ()
        reasons = frozenset(str(cause.get("reason")) for cause in causes)
        return _StatusObject(str(status.get("message", "")), str(status.get("reason", "")), reasons)
    except (ValueError, AttributeError, TypeError):
        return _StatusObject(text)
