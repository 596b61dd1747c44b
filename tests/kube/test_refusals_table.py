"""The table of refusals with recorded answers of an API server; `test_kube_refusals` provokes them on a real one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pangeo_binder.kube.refusals import CLUSTER_COUNT, Refusal, Why, refusal_in, refusal_of


def status(message: str, reason: str = "Forbidden", **more: Any) -> str:
    return json.dumps({"kind": "Status", "status": "Failure", "message": message, "reason": reason, **more})


PODS = 'pods "w" is forbidden: exceeded quota: launch, requested: pods=1, used: pods=3, limited: pods=3'
BOTH = (
    'pods "w" is forbidden: exceeded quota: launch, requested: limits.cpu=1,limits.memory=1Gi, '
    "used: limits.cpu=4,limits.memory=4Gi, limited: limits.cpu=4,limits.memory=4Gi"
)
COUNT = (
    f'daskclusters.gateway.dask.org "x" is forbidden: exceeded quota: launch, requested: {CLUSTER_COUNT}=1, '
    f"used: {CLUSTER_COUNT}=1, limited: {CLUSTER_COUNT}=1"
)
TERMINATING = 'pods "w" is forbidden: unable to create new content in namespace n because it is being terminated'
RBAC = (
    'pods is forbidden: User "system:serviceaccount:s:c" cannot create resource "pods" in API group "" in the '
    'namespace "n"'
)
NOT_COUNTED = (
    f'daskclusters.gateway.dask.org "x" is forbidden: status unknown for quota: launch, resources: {CLUSTER_COUNT}'
)
CONFLICT = (
    'Operation cannot be fulfilled on resourcequotas "launch": the object has been modified; please apply your changes '
    "to the latest version and try again"
)
ACCOUNT = 'pods "w" is forbidden: error looking up service account n/default: serviceaccount "default" not found'
SECURITY = 'pods "w" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
RANGE = 'pods "w" is forbidden: maximum cpu usage per Container is 1, but limit is 2'
POLICY = "pods \"w\" is forbidden: ValidatingAdmissionPolicy 'names' with binding 'names' denied request: no"
WEBHOOK = 'admission webhook "w.example.org" denied the request: status unknown for quota, exceeded quota: a'
UNREACHABLE = (
    'Internal error occurred: failed calling webhook "w.example.org": failed to call webhook: Post '
    '"https://127.0.0.1:1/?timeout=10s": dial tcp 127.0.0.1:1: connect: connection refused'
)
EXISTS = 'pods "w" already exists'
INVALID = 'Secret "exceeded quota: a, requested: pods=1, used: 1" is invalid: metadata.name: Invalid value'


@pytest.mark.parametrize(
    ("code", "message", "reason", "expected"),
    [
        (403, PODS, "Forbidden", Refusal(Why.QUOTA, ("pods",))),
        (403, BOTH, "Forbidden", Refusal(Why.QUOTA, ("limits.cpu", "limits.memory"))),
        (403, COUNT, "Forbidden", Refusal(Why.QUOTA, (CLUSTER_COUNT,))),
        (403, NOT_COUNTED, "Forbidden", Refusal(Why.QUOTA_NOT_COUNTED)),
        (409, CONFLICT, "Conflict", Refusal(Why.QUOTA_CONFLICT)),
        (403, ACCOUNT, "Forbidden", Refusal(Why.NO_SERVICE_ACCOUNT)),
        (403, TERMINATING, "Forbidden", Refusal(Why.ENDING)),
        (404, 'namespaces "n" not found', "NotFound", Refusal(Why.ENDING)),
        (404, 'pods "n" not found', "NotFound", Refusal(Why.MISSING)),
        (403, RBAC, "Forbidden", Refusal(Why.PERMISSION)),
        (401, "Unauthorized", "Unauthorized", Refusal(Why.PERMISSION)),
        (403, SECURITY, "Forbidden", Refusal(Why.RULES)),
        (403, RANGE, "Forbidden", Refusal(Why.RULES)),
        (422, POLICY, "Invalid", Refusal(Why.DENIED)),
        (403, WEBHOOK, "Forbidden", Refusal(Why.DENIED)),
        (400, WEBHOOK, "BadRequest", Refusal(Why.DENIED)),
        (500, UNREACHABLE, "InternalError", Refusal(Why.WEBHOOK_UNREACHABLE)),
        (409, EXISTS, "AlreadyExists", Refusal(Why.EXISTS)),
        (409, 'Operation cannot be fulfilled on pods "w": it was modified', "Conflict", Refusal(Why.CONFLICT)),
        (422, INVALID, "Invalid", Refusal(Why.INVALID)),
        (429, "too many requests", "TooManyRequests", Refusal(Why.UNAVAILABLE)),
        (500, PODS, "InternalError", Refusal(Why.UNAVAILABLE)),
        (503, "", "ServiceUnavailable", Refusal(Why.UNAVAILABLE)),
        (None, "", "", Refusal(Why.UNAVAILABLE)),
    ],
)
def test_an_answer_is_read_from_its_status_and_its_text(
    code: int | None, message: str, reason: str, expected: Refusal
) -> None:
    assert refusal_of(code, status(message, reason)) == expected
    assert refusal_of(code, status(message, reason).encode()) == expected


@pytest.mark.parametrize("body", [None, "", "404 page not found", "[]", "7", '{"details": []}', '{"details": "x"}'])
def test_a_body_that_is_no_status_is_read_too(body: str | None) -> None:
    assert refusal_of(403, body) == Refusal(Why.RULES)
    assert refusal_of(503, body) == Refusal(Why.UNAVAILABLE)


def test_a_cause_says_that_the_namespace_is_ending() -> None:
    body = status("no", details={"causes": [{"reason": "NamespaceTerminating"}]})
    assert refusal_of(403, body) == Refusal(Why.ENDING)


@pytest.mark.parametrize("message", [NOT_COUNTED, CONFLICT, ACCOUNT, UNREACHABLE])
def test_what_passes_by_itself_is_temporary(message: str) -> None:
    found = refusal_in(message)
    assert found is not None and found.is_temporary and "Try again" in found.hint


@pytest.mark.parametrize("message", [PODS, TERMINATING, RBAC, POLICY, WEBHOOK])
def test_what_somebody_has_to_change_is_not_temporary(message: str) -> None:
    found = refusal_in(message)
    assert found is not None and not found.is_temporary


def test_a_message_without_a_refusal_is_none() -> None:
    assert refusal_in("Deployment has minimum availability.") is None


@pytest.mark.parametrize("why", Why)
def test_every_refusal_has_a_sentence_without_names_and_limits(why: Why) -> None:
    refusal = Refusal(why, ("limits.cpu", "requests.cpu", "pods") if why is Why.QUOTA else ())
    assert "the scheduler" in refusal.sentence("the scheduler") and "{" not in refusal.sentence("x")
    assert refusal.hint or why in (Why.QUOTA, Why.ENDING)
    assert refusal.explanation("x").endswith(".")


@pytest.mark.parametrize(
    ("resources", "quota"),
    [(("pods",), "pods"), (("limits.cpu", "limits.memory"), "cores and memory"), ((CLUSTER_COUNT,), "clusters")],
)
def test_a_quota_is_named_in_words(resources: tuple[str, ...], quota: str) -> None:
    said = Refusal(Why.QUOTA, resources).sentence("x")
    assert said == f"Kubernetes refused x, because the quota of {quota} is used up."
