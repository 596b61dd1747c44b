"""A launch's NetworkPolicy with the operator's most unusual settings."""

from __future__ import annotations

from typing import Any

import pytest

from pangeo_binder.hub.kube.manifests import network_policy
from tests.kube.kubelaunch import a_launch, some_settings


def blocks(**changes: Any) -> list[dict[str, Any]]:
    """Return the networks that a launch may reach."""
    rules = network_policy(a_launch(), some_settings(**changes))["spec"]["egress"]
    return [peer["ipBlock"] for rule in rules for peer in rule["to"] if "ipBlock" in peer]


def test_metadata_services_are_blocked_with_any_settings() -> None:
    assert blocks(blocked_networks=()) == [{"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}]


def test_an_ipv6_network_is_not_in_the_ipv4_exceptions() -> None:
    (block,) = blocks(blocked_networks=("fd00:ec2::254/128", "10.0.0.0/8"))
    assert block == {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "169.254.0.0/16"]}


def test_the_internet_can_be_closed() -> None:
    assert blocks(internet=False) == []


def internet_ports(**changes: Any) -> list[int]:
    """Return the ports that a launch may use on the internet."""
    rules = network_policy(a_launch(), some_settings(**changes))["spec"]["egress"]
    (rule,) = [rule for rule in rules if any(peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0" for peer in rule["to"])]
    assert {each["protocol"] for each in rule["ports"]} == {"TCP"}
    return [each["port"] for each in rule["ports"]]


def test_only_listed_ports_of_the_internet_are_open() -> None:
    """Port 25 sends spam and 22 tries passwords in this cluster's name."""
    assert {80, 443} <= {*internet_ports()} and not {22, 25} & {*internet_ports()}
    assert internet_ports(internet_ports=(443, 8443)) == [443, 8443]


def test_without_ports_the_internet_is_closed() -> None:
    # in a NetworkPolicy, a rule without ports allows all of them
    assert blocks(internet_ports=()) == []


def test_name_servers_on_nodes_are_reached_for_dns_only() -> None:
    rules = network_policy(a_launch(), some_settings(dns_networks=("169.254.20.10/32",)))["spec"]["egress"]
    (rule,) = [rule for rule in rules if {"ipBlock": {"cidr": "169.254.20.10/32"}} in rule["to"]]
    assert {each["port"] for each in rule["ports"]} == {53}


def test_every_rule_has_peers() -> None:
    spec = network_policy(a_launch(), some_settings(internet=False))["spec"]
    # without peers, a rule would let everybody through
    assert all(rule["to"] for rule in spec["egress"]) and all(rule["from"] for rule in spec["ingress"])
    assert spec["policyTypes"] == ["Ingress", "Egress"] and spec["podSelector"] == {}


def test_a_shared_namespace_without_policies_is_refused() -> None:
    with pytest.raises(ValueError, match="need NetworkPolicies"):
        some_settings(shared="together", network_policies=False)
