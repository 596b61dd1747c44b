"""What surrounds a launch, by itself: sums of the grant, texts of strangers, and who may reach whom."""

from __future__ import annotations

import dataclasses

from pangeo_binder.hub.kube.manifests import launch_annotations, limit_range, namespace, network_policy, quota, secret
from tests.kube.kubelaunch import GIB, a_launch, a_site


def test_the_quota_is_the_grant_and_its_schedulers() -> None:
    hard = quota(a_launch(), a_site())["spec"]["hard"]
    assert (hard["requests.cpu"], hard["limits.cpu"]) == ("2750m", "3500m")
    assert hard["limits.memory"] == str(6 * GIB) and hard["pods"] == "6"
    assert hard["count/daskclusters.gateway.dask.org"] == "1" and hard["persistentvolumeclaims"] == "0"


def test_a_tier_without_dask_has_one_pod_and_no_cluster() -> None:
    hard = quota(a_launch(dask=False), a_site())["spec"]["hard"]
    assert (hard["pods"], hard["limits.cpu"], hard["count/daskclusters.gateway.dask.org"]) == ("1", "500m", "0")


def test_no_container_is_larger_than_the_grants_largest() -> None:
    (limits,) = limit_range(a_launch(), a_site())["spec"]["limits"]
    assert limits["max"]["cpu"] == "1000m" and limits["max"]["memory"] == str(GIB)


def test_texts_of_strangers_are_bounded_and_of_one_line() -> None:
    told = launch_annotations(a_launch("https://example.org/\n{username}\x00" + "x" * 5000))
    assert told["pangeo-binder/repo"].startswith("https://example.org/?{username}?x")
    assert len(told["pangeo-binder/repo"]) == 500


def test_everything_bears_the_launchs_label_and_only_restricted_pods_may_run() -> None:
    launch, site = a_launch(), a_site()
    made = [namespace(launch, site), quota(launch, site), network_policy(launch, site), secret("s", launch, site, {})]
    assert {each["metadata"]["labels"]["pangeo-binder/launch"] for each in made} == {launch.id}
    assert made[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_private_networks_and_metadata_are_no_part_of_the_internet() -> None:
    rules = network_policy(a_launch(), a_site())["spec"]["egress"]
    (block,) = [peer["ipBlock"] for rule in rules for peer in rule["to"] if "ipBlock" in peer]
    assert block["cidr"] == "0.0.0.0/0" and {"169.254.0.0/16", "10.0.0.0/8"} <= set(block["except"])


def test_in_a_shared_namespace_names_and_policies_are_the_launchs_own() -> None:
    launch, site = a_launch(), a_site(shared_namespace="launch-shared")
    policy = network_policy(launch, site)
    assert policy["spec"]["podSelector"] == {"matchLabels": {"pangeo-binder/launch": launch.id}}
    assert policy["metadata"]["name"].endswith(launch.id)
    assert site.secret("session", launch) == f"session-{launch.id}" and site.namespace(launch) == "launch-shared"


def test_without_dask_gateway_nobody_speaks_with_it() -> None:
    site = a_site()
    site = dataclasses.replace(site, neighbours=dataclasses.replace(site.neighbours, gateway={}))
    assert "gateway" not in str(network_policy(a_launch(), site))
