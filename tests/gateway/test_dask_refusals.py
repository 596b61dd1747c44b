"""What Kubernetes says when it refuses, as its people are told; the texts are a real API server's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pangeo_binder.kube.refusals import CLUSTER_COUNT, Refusal, Why, refusal_of


def status(message: str, **more: Any) -> str:
    return json.dumps({"kind": "Status", "status": "Failure", "message": message, "reason": "Forbidden", **more})


PODS = 'pods "w" is forbidden: exceeded quota: launch, requested: pods=1, used: pods=3, limited: pods=3'
BOTH = (
    'pods "w" is forbidden: exceeded quota: launch, requested: limits.cpu=1,limits.memory=1Gi, '
    "used: limits.cpu=4,limits.memory=4Gi, limited: limits.cpu=4,limits.memory=4Gi"
)
COUNT = (
    f'daskclusters.gateway.dask.org "x" is forbidden: exceeded quota: launch, requested: {CLUSTER_COUNT}=1, '
    f"used: {CLUSTER_COUNT}=1, limited: {CLUSTER_COUNT}=1"
)
GOING = 'pods "w" is forbidden: unable to create new content in namespace n because it is being terminated'
RBAC = (
    'pods is forbidden: User "system:serviceaccount:s:c" cannot create resource "pods" in API group "" in the '
    'namespace "n"'
)
NEW = f'daskclusters.gateway.dask.org "x" is forbidden: status unknown for quota: launch, resources: {CLUSTER_COUNT}'
SECURITY = 'pods "w" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
RANGE = 'pods "w" is forbidden: maximum cpu usage per Container is 1, but limit is 2'


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (403, PODS, Refusal(Why.QUOTA, ("pods",))),
        (403, BOTH, Refusal(Why.QUOTA, ("limits.cpu", "limits.memory"))),
        (403, COUNT, Refusal(Why.QUOTA, (CLUSTER_COUNT,))),
        (403, GOING, Refusal(Why.ENDING)),
        (404, 'namespaces "n" not found', Refusal(Why.ENDING)),
        (403, NEW, Refusal(Why.NOT_YET)),
        (403, RBAC, Refusal(Why.PERMISSION)),
        (403, SECURITY, Refusal(Why.RULES)),
        (403, RANGE, Refusal(Why.RULES)),
        (409, "already exists", None),
        (429, "too many requests", None),
        (500, PODS, None),
        (None, "", None),
    ],
)
def test_table(code: int | None, message: str, expected: Refusal | None) -> None:
    assert refusal_of(code, status(message)) == expected
    assert refusal_of(code, status(message).encode()) == expected


@pytest.mark.parametrize("body", [None, "", "404 page not found", "[]", "7", '{"details": []}', '{"details": "x"}'])
def test_a_body_of_another_form_is_read_too(body: str | None) -> None:
    assert refusal_of(403, body) == Refusal(Why.RULES)


def test_a_cause_says_that_the_namespace_is_going() -> None:
    body = status("no", details={"causes": [{"reason": "NamespaceTerminating"}]})
    assert refusal_of(403, body) == Refusal(Why.ENDING)


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (PODS, "Kubernetes refused x, because the quota of pods is used up."),
        (BOTH, "Kubernetes refused x, because the quota of cores and memory is used up."),
        (COUNT, "Kubernetes refused x, because the quota of clusters is used up."),
        (GOING, "Kubernetes refused x, because this session is ending."),
        (NEW, "Kubernetes does not count this session's quota yet, so it refused x; try again in a minute."),
        (SECURITY, "Kubernetes' rules here do not allow x; the operator finds the reason in the gateway's log."),
    ],
)
def test_the_sentence_names_no_object_and_no_limit(refused: str, said: str) -> None:
    found = refusal_of(403, status(refused))
    assert found is not None and found.sentence("x") == said
