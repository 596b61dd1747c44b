"""What a launch's NetworkPolicy and annotations hold by themselves, at the edges of what an operator may say."""

from __future__ import annotations

from typing import Any

import pytest

from pangeo_binder.hub.kube.manifests import launch_annotations, network_policy
from tests.kube.kubelaunch import a_launch, a_site


def blocks(**site: Any) -> list[dict[str, Any]]:
    """Return the networks that a launch may reach."""
    rules = network_policy(a_launch(), a_site(**site))["spec"]["egress"]
    return [peer["ipBlock"] for rule in rules for peer in rule["to"] if "ipBlock" in peer]


def test_metadata_services_are_blocked_whatever_the_operator_says() -> None:
    assert blocks(blocked_networks=()) == [{"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}]


def test_a_network_of_ipv6_is_no_exception_to_ipv4() -> None:
    (block,) = blocks(blocked_networks=("fd00:ec2::254/128", "10.0.0.0/8"))
    assert block == {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "169.254.0.0/16"]}


def test_the_internet_can_be_closed() -> None:
    assert blocks(internet=False) == []


def test_name_servers_on_nodes_are_reached_for_names_alone() -> None:
    rules = network_policy(a_launch(), a_site(dns_networks=("169.254.20.10/32",)))["spec"]["egress"]
    (rule,) = [rule for rule in rules if {"ipBlock": {"cidr": "169.254.20.10/32"}} in rule["to"]]
    assert {each["port"] for each in rule["ports"]} == {53}


def test_every_rule_says_whom_it_means() -> None:
    spec = network_policy(a_launch(), a_site(internet=False))["spec"]
    # without peers, a rule would let everybody through
    assert all(rule["to"] for rule in spec["egress"]) and all(rule["from"] for rule in spec["ingress"])
    assert spec["policyTypes"] == ["Ingress", "Egress"] and spec["podSelector"] == {}


@pytest.mark.parametrize("text", ["a\u202eb", "a\u2028b", "a\x1b[31mb", "a\u200bb", "a\ud800b"])
def test_nothing_invisible_is_in_an_annotation(text: str) -> None:
    told = launch_annotations(a_launch(f"https://example.org/{text}"))["pangeo-binder/repo"]
    assert told.isprintable() and "?" in told


def test_a_shared_namespace_without_policies_is_refused() -> None:
    with pytest.raises(ValueError, match="need NetworkPolicies"):
        a_site(shared_namespace="together", network_policies=False)
