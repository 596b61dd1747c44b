"""The chart grants exactly the permissions that the tests of each process run with."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.chart.conftest import Helm
from tests.chart.test_chart_templates import one
from tests.chart.test_chart_values import EXAMPLES
from tests.kube.builds import RULES
from tests.kube.daskoperator import HUB_RULES
from tests.kube.gatewaystand import API, CONTROLLER, EVERYWHERE, IN_LAUNCHES
from tests.kube.hubstand import documented_rules

CLUSTERWIDE = "binder-pangeo-binder"
SHARED = next(path for path in EXAMPLES if path.stem == "on-premises")
OPERATED = next(path for path in EXAMPLES if path.stem == "azure")
_RBAC = "rbac.authorization.k8s.io"
_GIVES = {(_RBAC, "rolebindings", "create"), (_RBAC, "clusterroles", "bind")}


def rights(rules: Any) -> set[tuple[str, str, str]]:
    """Return rules as single permissions: group, resource, verb."""
    return {each for rule in rules for each in product(rule["apiGroups"], rule["resources"], rule["verbs"])}


def test_the_hub_may_do_what_its_tests_run_with(helm: Helm) -> None:
    role = one(helm.template("-f", EXAMPLES[-1]), "ClusterRole", f"{CLUSTERWIDE}-hub")
    assert rights(role["rules"]) == rights(documented_rules("own")) | _GIVES
    (bound,) = [rule["resourceNames"] for rule in role["rules"] if rule["verbs"] == ["bind"]]
    assert bound == [f"{CLUSTERWIDE}-{process}-launches" for process in ("gateway", "dask-controller")]


def test_in_a_shared_namespace_the_hub_has_permissions_only_there(helm: Helm) -> None:
    manifests = helm.template("-f", SHARED)
    role = one(manifests, "Role", f"{CLUSTERWIDE}-hub")
    assert rights(role["rules"]) == rights(documented_rules("shared"))
    assert not [
        each for each in manifests if each["kind"] == "ClusterRole" and each["metadata"]["name"].endswith("-hub")
    ]


def test_with_the_operator_the_hub_may_do_what_both_its_tests_run_with(helm: Helm) -> None:
    manifests = helm.template("-f", OPERATED)
    role = one(manifests, "ClusterRole", f"{CLUSTERWIDE}-hub")
    assert rights(role["rules"]) == rights(documented_rules("own")) - _GIVES | rights(HUB_RULES)
    assert "bind" not in {verb for _, _, verb in rights(role["rules"])}


@pytest.mark.parametrize("process", ["gateway", "dask-controller"])
def test_the_gateways_processes_may_do_what_their_tests_run_with(helm: Helm, process: str) -> None:
    manifests = helm.template("-f", EXAMPLES[-1])
    account = {"gateway": API, "dask-controller": CONTROLLER}[process]
    for suffix, rules in (("", EVERYWHERE), ("-launches", IN_LAUNCHES)):
        role = one(manifests, "ClusterRole", f"{CLUSTERWIDE}-{process}{suffix}")
        assert rights(role["rules"]) == rights(rules[account])


def test_the_binder_may_do_what_its_tests_run_with(helm: Helm) -> None:
    found = [
        each
        for each in helm.template("-f", EXAMPLES[-1])
        if each["kind"] == "Role" and each["metadata"].get("namespace") == "binder-builds"
    ]
    assert [rights(role["rules"]) for role in found] == [rights(RULES)]
