"""A launch's manifests: sums of the grant, and which pods may reach which."""

from __future__ import annotations

import dataclasses

from pangeo_binder.hub.kube.manifests import limit_range, namespace, network_policy, quota, secret
from tests.kube.kubelaunch import GIB, a_launch, some_settings


def test_the_quota_is_the_grant_and_its_schedulers() -> None:
    hard = quota(a_launch(), some_settings())["spec"]["hard"]
    assert (hard["requests.cpu"], hard["limits.cpu"]) == ("2750m", "3500m")
    assert hard["limits.memory"] == str(6 * GIB) and hard["pods"] == "6"
    assert hard["count/daskclusters.gateway.dask.org"] == "1" and hard["persistentvolumeclaims"] == "0"


def test_a_tier_without_dask_has_one_pod_and_no_cluster() -> None:
    hard = quota(a_launch(dask=False), some_settings())["spec"]["hard"]
    assert (hard["pods"], hard["limits.cpu"], hard["count/daskclusters.gateway.dask.org"]) == ("1", "500m", "0")


def test_no_container_is_larger_than_the_grants_largest() -> None:
    (limits,) = limit_range(a_launch(), some_settings())["spec"]["limits"]
    assert limits["max"]["cpu"] == "1000m" and limits["max"]["memory"] == str(GIB)


def test_all_objects_have_the_launchs_label_and_only_restricted_pods_may_run() -> None:
    launch, settings = a_launch(), some_settings()
    made = [
        namespace(launch, settings),
        quota(launch, settings),
        network_policy(launch, settings),
        secret("s", launch, settings, {}),
    ]
    assert {each["metadata"]["labels"]["pangeo-binder/launch"] for each in made} == {launch.id}
    assert made[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_private_networks_and_metadata_are_no_part_of_the_internet() -> None:
    rules = network_policy(a_launch(), some_settings())["spec"]["egress"]
    (block,) = [peer["ipBlock"] for rule in rules for peer in rule["to"] if "ipBlock" in peer]
    assert block["cidr"] == "0.0.0.0/0" and {"169.254.0.0/16", "10.0.0.0/8"} <= set(block["except"])


def test_in_a_shared_namespace_names_and_policies_are_the_launchs_own() -> None:
    launch, settings = a_launch(), some_settings(shared="launch-shared")
    policy = network_policy(launch, settings)
    assert policy["spec"]["podSelector"] == {"matchLabels": {"pangeo-binder/launch": launch.id}}
    assert policy["metadata"]["name"].endswith(launch.id)
    assert (
        settings.placement.secret("session", launch) == f"session-{launch.id}"
        and settings.placement.namespace(launch) == "launch-shared"
    )


def test_without_dask_gateway_the_policy_does_not_name_it() -> None:
    settings = some_settings()
    settings = dataclasses.replace(settings, neighbours=dataclasses.replace(settings.neighbours, gateway={}))
    assert "gateway" not in str(network_policy(a_launch(), settings))
