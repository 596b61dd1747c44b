"""The chart's manifests for the examples' values, checked without a cluster."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from oauthenticator.generic import GenericOAuthenticator
from oauthenticator.github import GitHubOAuthenticator
from traitlets.config import Config

from pangeo_binder.addresses import make_rules
from pangeo_binder.deploy.kube import values as kube_values
from pangeo_binder.deploy.kube.binder import build_settings, configure_repositories
from pangeo_binder.deploy.kube.values import KubeValues, read_values
from pangeo_binder.hub.kube.settings import INTERNET_PORTS
from pangeo_binder.policy.load import load_policy
from tests.chart.conftest import ROOT, Helm
from tests.chart.test_chart_values import EXAMPLES, NAMED
from tests.stack.local import COMMAND

CHART = ROOT / "helm-chart" / "pangeo-binder"
AUTHENTICATORS = {kind.__name__: kind for kind in (GitHubOAuthenticator, GenericOAuthenticator)}
Manifests = list[dict[str, Any]]


def one(manifests: Manifests, kind: str, name: str) -> dict[str, Any]:
    """Return the only manifest of a kind with a name."""
    found = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    assert len(found) == 1, f"{kind} {name}: {len(found)}"
    return found[0]


def pods(manifests: Manifests) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the pod specs of this chart, without those of its dependencies."""
    for each in manifests:
        if each["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "pangeo-binder":
            template = each.get("spec", {}).get("template")
            if template:
                yield each["metadata"]["name"], template["spec"]


@pytest.mark.parametrize("example", NAMED)
def test_the_values_document_is_what_python_reads(example: Path, helm: Helm, tmp_path: Path) -> None:
    config = one(helm.template("-f", example), "ConfigMap", "pangeo-binder")["data"]
    for name, text in config.items():
        (tmp_path / name).write_text(text)
    values, given = read_values(tmp_path), yaml.safe_load(example.read_text())
    assert list(values.binder.hosts) == given["binder"]["hosts"]
    assert load_policy(tmp_path / "policy.yaml").tiers.keys() == given["policy"]["tiers"].keys() == {*values.site.tiers}
    assert {"hub.py", "binder.py", "culler.py", "controller.py"} < config.keys()


@pytest.mark.parametrize(("kind", "auth", "rules"), [("github", "offered", 3), ("oidc", "required", 3)])
def test_an_example_of_logins_adds_to_any_cluster(kind: str, auth: str, rules: int, helm: Helm, tmp_path: Path) -> None:
    extra = EXAMPLES[0].parent / "logins" / f"{kind}.yaml"
    manifests = helm.template("-f", EXAMPLES[-1], "-f", extra)
    config = one(manifests, "ConfigMap", "pangeo-binder")["data"]
    (tmp_path / "values.yaml").write_text(config["values.yaml"])
    assert read_values(tmp_path).binder.auth == auth
    (tmp_path / "policy.yaml").write_text(config["policy.yaml"])
    assert len(load_policy(tmp_path / "policy.yaml").rules) == rules
    text = extra.read_text()
    assert "secretKeyRef" in text and not re.search(r"client_secret:|password", text)
    ((name, settings),) = [
        (name, given)
        for name, given in yaml.safe_load(text)["jupyterhub"]["hub"]["config"].items()
        if name != "JupyterHub"
    ]
    assert set(settings) <= set(AUTHENTICATORS[name].class_trait_names(config=True))


def test_a_key_that_python_does_not_know_is_refused(helm: Helm) -> None:
    config = one(helm.template("-f", EXAMPLES[0]), "ConfigMap", "pangeo-binder")["data"]
    document = yaml.safe_load(config["values.yaml"])
    document["binder"]["host"] = "binder.example.org"
    with pytest.raises(ValueError, match=r"binder\.host\n.*Extra inputs"):
        KubeValues.model_validate(document)


def test_values_come_from_a_variable_if_no_file_is_mounted(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    config = one(helm.template("-f", EXAMPLES[0]), "ConfigMap", "pangeo-binder")["data"]
    monkeypatch.setenv(kube_values.VALUES_VARIABLE, config["values.yaml"])
    assert read_values(Path("/nowhere")).gateway_url == (
        "http://traefik-binder-dask-gateway.binder.svc:80/services/dask-gateway"
    )


@pytest.mark.parametrize("example", NAMED)
def test_our_pods_are_restricted_and_their_roots_read_only(example: Path, helm: Helm) -> None:
    found = dict(pods(helm.template("-f", example)))
    assert {"binder", "storage", "pangeo-binder-check"} <= found.keys()
    for name, pod in found.items():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] and security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod.get("automountServiceAccountToken") is False or pod["serviceAccountName"] != "default", name
        for container in pod["containers"]:
            held = container["securityContext"]
            assert held["readOnlyRootFilesystem"] and not held["allowPrivilegeEscalation"], name
            assert held["capabilities"] == {"drop": ["ALL"]} and container["resources"]["requests"], name


@pytest.mark.parametrize("example", NAMED)
def test_each_process_gets_only_its_own_secrets(example: Path, helm: Helm) -> None:
    manifests = helm.template("-f", example)
    keys = {
        each["metadata"]["name"].removeprefix("pangeo-binder-"): set(each["data"])
        for each in manifests
        if each["kind"] == "Secret" and each["metadata"]["name"].startswith("pangeo-binder-")
    }
    assert keys["binder"] == {"ticket-keys", "hub-token"}
    assert keys["gateway"] == {"hub-token"}
    assert keys["storage"] == {"master-key", "hub-token", "issue-token", "look-token"}
    assert keys["status"] == {"hub-token", "storage-token"}
    mounted = {
        name: {each["secret"]["secretName"] for each in pod.get("volumes", ()) if "secret" in each}
        for name, pod in pods(manifests)
    }
    assert "pangeo-binder-binder" in mounted["binder"] and mounted["storage"] == {"pangeo-binder-storage"}
    assert {name for pod in mounted.values() for name in pod} <= {
        "pangeo-binder-binder", "pangeo-binder-storage", "registry-read"
    }  # fmt: skip


def test_the_chart_creates_no_secret_if_the_operator_creates_them(helm: Helm) -> None:
    manifests = helm.template("-f", EXAMPLES[0], "--set", "secrets.create=false")
    assert [each for each in manifests if each["kind"] == "Secret" and "pangeo" in each["metadata"]["name"]] == []


def test_there_is_no_python_in_yaml() -> None:
    python = re.compile(r"^\s*(from \S+ )?import \w|^\s*c\.\w+\.\w+ = |configure\(", re.MULTILINE)
    files = [*CHART.rglob("*.yaml"), *CHART.rglob("*.tpl"), *EXAMPLES]
    assert len(files) > 15
    assert [str(path) for path in files if python.search(path.read_text())] == []


def test_only_the_policy_limits_how_many_servers_start() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values["jupyterhub"]["hub"]["concurrentSpawnLimit"] == 0
    assert values["launches"]["startSeconds"] == values["binder"]["queueSeconds"]


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in sorted((CHART / "files").glob("*.py"))])
def test_a_configuration_file_is_an_import_and_a_call(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line]
    assert len(lines) == 2
    code = f"{lines[0]}\nassert callable(configure)\n"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(("text", "status"), [("tier: small", 0), ("tier: large", 1)])
def test_the_hook_checks_the_policy_before_anything_changes(text: str, status: int, helm: Helm, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(EXAMPLES[-1].read_text().replace("tier: small", text))
    manifests = helm.template("-f", values)
    job, config = (one(manifests, kind, "pangeo-binder-check") for kind in ("Job", "ConfigMap"))
    for each in (job, config):
        assert each["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (mount,) = container["volumeMounts"]
    (tmp_path / "policy.yaml").write_text(config["data"]["policy.yaml"])
    program, *arguments = [each.replace(mount["mountPath"], str(tmp_path)) for each in container["command"]]
    assert program == "pangeo-binder"
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stdout
    assert ("There is no tier `large`" in done.stdout) == bool(status)


def test_names_of_the_gateway_follow_its_charts_rule(helm: Helm) -> None:
    for release, expected in (("binder", "binder-dask-gateway"), ("my-dask-gateway", "my-dask-gateway")):
        manifests = helm.template("-f", EXAMPLES[0], "--set", "dask.backend=gateway", release=release)
        site = yaml.safe_load(one(manifests, "ConfigMap", "pangeo-binder")["data"]["values.yaml"])["site"]
        assert site["gatewayInstance"] == expected
        for service in (site["gatewayApi"], site["gatewayTraefik"]):
            assert one(manifests, "Service", service)
        assert one(manifests, "Middleware", site["gatewayMiddleware"])


def test_network_policies_select_existing_pods(helm: Helm) -> None:
    """A selector with a typing mistake would silently allow no peer, or restrict no pod."""
    manifests = helm.template("-f", EXAMPLES[-1])
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in manifests if each["kind"] == "Deployment"]
    selectors = [
        rule["podSelector"]["matchLabels"]
        for each in manifests
        if each["kind"] == "NetworkPolicy" and each["metadata"].get("namespace") is None
        for rule in [each["spec"], *_peers(each["spec"])]
        if rule.get("podSelector", {}).get("matchLabels")
    ]
    assert len(selectors) > 12
    unmatched = [wanted for wanted in selectors if not any(wanted.items() <= held.items() for held in labels)]
    # the jupyterhub chart also selects servers in the hub's namespace, which do not exist here
    ours = [each for each in unmatched if each.get("component") != "singleuser-server"]
    assert [each for each in ours if not any(key.startswith("hub.jupyter.org") for key in each)] == []


def _binders_blocks(manifests: Manifests) -> list[tuple[str, list[str], list[int]]]:
    spec = one(manifests, "NetworkPolicy", "binder")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    return [
        (peer["ipBlock"]["cidr"], peer["ipBlock"].get("except", []), [each["port"] for each in rule.get("ports", [])])
        for rule in spec["egress"]
        for peer in rule["to"]
        if "ipBlock" in peer
    ]


def test_the_binder_reaches_git_servers_of_the_internet_and_of_the_operator(helm: Helm, tmp_path: Path) -> None:
    """Links name the servers that the binder contacts, so it must not reach the cluster's own networks."""
    (tmp_path / "more.yaml").write_text(
        "registry: {networks: [10.1.0.0/28]}\n"
        "networkPolicies: {gitNetworks: [10.2.0.0/28], apiServer: {networks: [10.3.0.1/32], ports: [8443]}}\n"
    )
    common = ["-f", EXAMPLES[0]]
    api, (everywhere, closed, ports) = _binders_blocks(helm.template(*common))
    assert everywhere == "0.0.0.0/0" and {"10.0.0.0/8", "169.254.0.0/16"} <= {*closed}
    assert api == ("192.0.2.1/32", [], [443, 6443]) and tuple(ports) == INTERNET_PORTS
    opened = _binders_blocks(helm.template(*common, "-f", tmp_path / "more.yaml"))[:-1]
    assert opened == [("10.3.0.1/32", [], [8443]), ("10.1.0.0/28", [], []), ("10.2.0.0/28", [], [])]


def test_private_git_servers_are_those_that_the_operator_names(helm: Helm, tmp_path: Path) -> None:
    named = ("binder.repositories.internalHosts={git.example.org}", "networkPolicies.gitNetworks={10.2.0.0/28}")
    for settings, hosts, networks in (((), set(), ()), (named, {"git.example.org"}, ("10.2.0.0/28",))):
        manifests = helm.template("-f", EXAMPLES[0], *(word for setting in settings for word in ("--set", setting)))
        (tmp_path / "values.yaml").write_text(one(manifests, "ConfigMap", "pangeo-binder")["data"]["values.yaml"])
        binder = Config().PangeoBinderHub
        configure_repositories(binder, read_values(tmp_path))
        rules = make_rules(binder.internal_hosts, binder.internal_networks)
        assert rules.hosts == hosts and not rules.everywhere
        assert tuple(map(str, rules.networks)) == networks
        policy = one(manifests, "NetworkPolicy", "builds")["spec"]
        blocks = [peer["ipBlock"]["cidr"] for peer in _peers(policy) if "ipBlock" in peer]
        assert [block for block in blocks if block in networks] == list(networks)


def _internet(manifests: Manifests, policy: str) -> tuple[list[str], list[int]]:
    """Return the networks that a policy blocks, and the ports that it opens on the internet."""
    (rule,) = [
        rule
        for rule in one(manifests, "NetworkPolicy", policy)["spec"]["egress"]
        for peer in rule["to"]
        if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0"
    ]
    assert {each["protocol"] for each in rule["ports"]} == {"TCP"}
    return rule["to"][0]["ipBlock"]["except"], [each["port"] for each in rule["ports"]]


@pytest.mark.parametrize("policy", ["binder", "builds"])
def test_builds_and_binder_reach_the_listed_ports_and_the_registrys(policy: str, helm: Helm) -> None:
    own = ("-f", EXAMPLES[0], "--set", "launches.internetPorts={443}")
    _, ports = _internet(helm.template(*own, "--set", "registry.address=registry.example.org:5000"), policy)
    assert ports == [443, 5000]
    inside = ("--set", "registry.address=registry.example.org:5000,registry.networks={10.1.0.0/28}")
    assert _internet(helm.template(*own, *inside), policy)[1] == [443]


@pytest.mark.parametrize("policy", ["binder", "builds"])
def test_metadata_services_are_blocked_and_ipv6_is_no_exception_to_ipv4(policy: str, helm: Helm) -> None:
    """The API server refuses a policy that mixes the two."""
    manifests = helm.template("-f", EXAMPLES[0], "--set", "launches.blockedNetworks={10.0.0.0/8,fd00::/8}")
    assert _internet(manifests, policy)[0] == ["10.0.0.0/8", "169.254.0.0/16"]


def test_the_hub_limits_launches_to_the_same_ports(helm: Helm) -> None:
    config = one(helm.template("-f", EXAMPLES[0]), "ConfigMap", "pangeo-binder")["data"]
    values = KubeValues.model_validate(yaml.safe_load(config["values.yaml"]))
    assert values.launches.internet_ports == INTERNET_PORTS and not {22, 25} & {*INTERNET_PORTS}


def test_the_cluster_refuses_builds_without_the_isolation_that_the_operator_chose(helm: Helm) -> None:
    def expressions(*more: str) -> str:
        name = "binder-pangeo-binder-builds"
        spec = one(helm.template("-f", EXAMPLES[0], *more), "ValidatingAdmissionPolicy", name)["spec"]
        return " ".join(each["expression"] for each in spec["validations"])

    assert "hostUsers" not in expressions() and "runtimeClassName" not in expressions()
    chosen = expressions("--set", "builds.hostUsers=false,builds.runtimeClassName=kata")
    assert "hostUsers.orValue(true) == false" in chosen and "runtimeClassName.orValue('') == 'kata'" in chosen


@pytest.mark.parametrize("example", NAMED)
def test_an_examples_images_are_where_its_nodes_pull_from(example: Path, helm: Helm) -> None:
    manifests = helm.template("-f", example)
    values = yaml.safe_load(one(manifests, "ConfigMap", "pangeo-binder")["data"]["values.yaml"])
    used = [values["site"]["builderImage"]] + [
        container["image"]
        for each in manifests
        if each["kind"] in ("Deployment", "Job")
        for container in each["spec"]["template"]["spec"]["containers"]
        if "pangeo-binder/" in container["image"]
    ]
    assert {image.rpartition("/")[2].partition(":")[0] for image in used} >= {"builder", "binder", "storage", "hub"}
    assert [image for image in used if not image.startswith(f"{values['registry']['address']}/")] == []


@pytest.mark.parametrize("example", NAMED)
def test_an_examples_builds_reach_the_registry_and_no_other_part_of_the_cluster(example: Path, helm: Helm) -> None:
    """Build steps reach every peer that is allowed here, so the registry must require a password."""
    manifests = helm.template("-f", example)
    registry = yaml.safe_load(example.read_text())["registry"]
    assert registry["pushSecret"] and registry["readSecret"]
    namespaces, open_blocks = [], []
    for peer in _peers(one(manifests, "NetworkPolicy", "builds")["spec"]):
        if "namespaceSelector" in peer:
            namespaces += [*peer["namespaceSelector"]["matchLabels"].values()]
        elif "except" not in peer["ipBlock"]:
            open_blocks.append(peer["ipBlock"]["cidr"])
    assert namespaces == ["kube-system", *filter(None, [registry.get("namespace")])]
    assert open_blocks == registry.get("networks", [])


def _peers(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for direction, key in (("ingress", "from"), ("egress", "to")):
        for rule in spec.get(direction) or ():
            assert rule.get(key) or rule.get("ports"), "an empty rule lets everybody in"
            yield from rule.get(key) or ()


def test_a_token_for_githubs_api_is_a_file_of_the_binder_alone(helm: Helm) -> None:
    example = NAMED[0].values[0]
    plain = one(helm.template("-f", example), "Deployment", "binder")["spec"]["template"]["spec"]
    assert "github" not in {volume["name"] for volume in plain["volumes"]}
    manifests = helm.template("-f", example, "--set", "binder.repositories.githubTokenSecret=github-token")
    volumes = one(manifests, "Deployment", "binder")["spec"]["template"]["spec"]["volumes"]
    assert next(volume["secret"]["secretName"] for volume in volumes if volume["name"] == "github") == "github-token"
    assert str(manifests).count("'secretName': 'github-token'") == 1


def test_a_private_repositorys_token_is_for_the_binder_and_its_builds(helm: Helm, tmp_path: Path) -> None:
    given = {"binder": {"repositories": {"private": [{"pattern": "gh/org/*", "secret": "org-repositories"}]}}}
    (tmp_path / "private.yaml").write_text(yaml.safe_dump(given))
    manifests = helm.template("-f", NAMED[0].values[0], "-f", tmp_path / "private.yaml")
    having = [name for name, spec in pods(manifests) if "org-repositories" in str(spec)]
    assert having == ["binder"]
    mounts = one(manifests, "Deployment", "binder")["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    (folder,) = (each["mountPath"] for each in mounts if each["name"] == "private-0")
    document = one(manifests, "ConfigMap", "pangeo-binder")["data"]["values.yaml"]
    values, app = KubeValues.model_validate(yaml.safe_load(document)), Config()
    configure_repositories(app.PangeoBinderHub, values)
    assert app.PangeoBinderHub.private_repositories == {"gh/org/*": f"{folder}/token"}
    secret_of = build_settings(values).token_secret
    assert secret_of is not None
    assert [secret_of(f"https://github.com/{path}") for path in ("org/sea", "other/sea")] == ["org-repositories", ""]
    plain = one(helm.template("-f", NAMED[0].values[0]), "ConfigMap", "pangeo-binder")["data"]["values.yaml"]
    assert build_settings(KubeValues.model_validate(yaml.safe_load(plain))).token_secret is None


@pytest.mark.parametrize("address", ["github.com", "https://me:secret@github.example.org", "https://x.example/?a=b"])
def test_an_address_of_a_repository_host_is_checked(address: str, helm: Helm) -> None:
    with pytest.raises(AssertionError, match=r"binder.repositories.github|binder/repositories/github"):
        helm.template("-f", NAMED[0].values[0], "--set", f"binder.repositories.github={address}")
