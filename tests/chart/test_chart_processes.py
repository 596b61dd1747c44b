"""Each process really configures itself from the files in its pod: values, policy, and its own Secret."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.conftest import Helm
from tests.chart.test_chart_templates import one
from tests.chart.test_chart_values import EXAMPLES, NAMED

Run = Callable[[str, str, Path], Any]


@pytest.fixture
def process(helm: Helm, tmp_path: Path) -> Run:
    """Return a function that runs Python code with the files of a process and returns its JSON output."""

    def run(name: str, code: str, example: Path) -> Any:
        manifests = helm.template("-f", example)
        files = {"config": one(manifests, "ConfigMap", "pangeo-binder")["data"]}
        if name in ("binder", "hub", "storage"):
            held = one(manifests, "Secret", f"pangeo-binder-{name}")["data"]
            files["secrets"] = {key: base64.b64decode(value).decode() for key, value in held.items()}
        for folder, texts in files.items():
            (tmp_path / folder).mkdir()
            for file, text in texts.items():
                (tmp_path / folder / file).write_text(text)
        (tmp_path / "pull").mkdir()
        (tmp_path / "pull" / ".dockerconfigjson").write_text('{"auths": {}}')
        environment = {**os.environ, "PANGEO_BINDER_ETC": str(tmp_path), "POD_IP": "10.1.2.3"}
        command = [sys.executable, "-W", "ignore", "-c", f"import json\n{code}"]
        how: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 120}
        done = subprocess.run(command, env=environment, cwd=tmp_path, check=False, **how)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


_BINDER = """
from pangeo_binder.app import PangeoBinderHub
app = PangeoBinderHub()
app.initialize(["-f", "config/binder.py"])
builds = app.kube_builds
print(json.dumps([app.hub_api_url, list(app.limits.hosts), builds.namespace, builds.registry.asked,
    len(app.ticket_keys), builds.pods.priority_class, [example.title for example in app.examples], app.health_urls]))
"""


def test_the_binder_is_wired_to_the_release(process: Run) -> None:
    hub, hosts, namespace, registry, keys, priority, examples, health = process("binder", _BINDER, EXAMPLES[-1])
    assert hub == "http://hub.binder.svc:8081/hub/api" and keys == 1
    assert hosts == ["binder.localhost", "binder", "binder.binder.svc", "10.1.2.3"]
    assert (namespace, registry) == ("binder-builds", "registry.registry.svc:5000")
    assert priority == "binder-pangeo-binder-builds" and examples == ["Pangeo tutorial"]
    assert health["gateway"] == "http://api-binder-dask-gateway.binder.svc:8000/api/health"


_SAID = """
from pangeo_binder.app import PangeoBinderHub
app = PangeoBinderHub()
app.initialize(["-f", "config/binder.py"])
print(json.dumps([app.notice, app.about]))
"""


def test_the_operators_sentences_are_on_the_pages(process: Run, tmp_path: Path) -> None:
    values = yaml.safe_load(EXAMPLES[-1].read_text())
    values["binder"] |= {"notice": "Closed on Friday.", "about": ["No GPUs.", "Scratch for a day."]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(values))
    assert process("binder", _SAID, tmp_path / "own.yaml") == ["Closed on Friday.", ["No GPUs.", "Scratch for a day."]]


def test_a_binder_with_a_wrong_policy_does_not_start(process: Run, helm: Helm, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(EXAMPLES[-1].read_text().replace("tier: small", "tier: large"))
    with pytest.raises(AssertionError, match="There is no tier `large`"):
        process("binder", _BINDER, values)


_STORAGE = """
from pangeo_binder.deploy.kube.storage import service_address, settings
held = settings(service_address("localhost"))
print(json.dumps([held.public_endpoint, held.hub_api_url, [sorted(caller.rights) for caller in held.admin_callers],
    len({held.master_key, held.hub_api_token, *(caller.token for caller in held.admin_callers)})]))
"""


def test_the_storage_service_has_a_key_for_each_caller(process: Run) -> None:
    endpoint, hub, rights, keys = process("storage", _STORAGE, EXAMPLES[0])
    assert endpoint in ("http://127.0.0.1:9100", "http://[::1]:9100"), "an address, so that clients use path style"
    assert hub == "http://hub.binder.svc:8081/hub/api"
    assert rights == [["issue"], ["look"]] and keys == 4


_CHART_FILE = """
c.DaskGateway.address = ":1"
c.KubeBackend.gateway_instance = "mine"
c.KubeBackend.api_url = "http://api:8000/api"
c.JupyterHubAuthenticator.jupyterhub_service_name = "dask-gateway"
"""
_GATEWAY = (
    f"""
import os, pathlib
pathlib.Path("chart.py").write_text({_CHART_FILE!r})
"""
    """
os.environ.update(PANGEO_BINDER_VALUES=pathlib.Path("config/values.yaml").read_text(), JUPYTERHUB_API_TOKEN="secret")
from pangeo_binder.deploy.kube.gateway import ConfiguredGateway
app = ConfiguredGateway()
app.initialize(["--config", "chart.py"])
tiers = {name: [dict(pods.node_selector), pods.priority_class] for name, pods in app.backend.tier_pods.items()}
print(json.dumps([type(app.backend).__name__, app.backend.gateway_instance, app.backend.api_url, app.address, tiers,
    type(app.authenticator).__name__, app.authenticator.jupyterhub_api_url,
    app.backend.cluster_config_class(parent=app.backend).scheduler_memory_limit,
    [app.backend.shared_namespace, app.backend.pull_login]]))
"""
)


def test_the_gateway_adds_our_configuration_to_its_charts(process: Run) -> None:
    told = process("gateway", _GATEWAY, EXAMPLES[0])
    backend, instance, api, address, tiers, authenticator, hub, memory, launches = told
    assert (backend, instance, address) == ("KubeLaunchBackend", "mine", ":1"), "what the chart says holds"
    assert api == "http://api-binder-dask-gateway.binder.svc:8000/api", "reached from other namespaces"
    assert authenticator == "LaunchAuthenticator" and hub == "http://hub.binder.svc:8081/hub/api"
    assert tiers["anonymous"] == [{"purpose": "sessions"}, "binder-pangeo-binder-dask"] and memory == 2**30
    assert launches == ["", True]


def test_a_tier_may_have_a_priority_class_of_its_own(process: Run, tmp_path: Path) -> None:
    values = yaml.safe_load(EXAMPLES[0].read_text())
    values["launches"]["pools"]["anonymous"]["priorityClass"] = "last"
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(values))
    tiers = process("gateway", _GATEWAY, tmp_path / "own.yaml")[4]
    assert tiers.pop("anonymous")[1] == "last"
    assert {priority for _, priority in tiers.values()} == {"binder-pangeo-binder-dask"}


def test_the_gateway_pulls_as_launches_do_also_in_a_shared_namespace(process: Run) -> None:
    example = next(path for path in EXAMPLES if path.stem == "on-premises")
    assert process("gateway", _GATEWAY, example)[-1] == ["session-shared", True]


_CONTROLLER = """
from pangeo_binder.gateway.kube.controller import LaunchController
app = LaunchController()
app.initialize(["-f", "config/controller.py"])
print(json.dumps([app.gateway_instance, app.proxy_prefix, app.proxy_web_middlewares, app.address, app.start_seconds]))
"""


def test_the_controller_belongs_to_the_gateway(process: Run) -> None:
    instance, prefix, middlewares, address, seconds = process("controller", _CONTROLLER, EXAMPLES[0])
    assert instance == "binder-dask-gateway" and prefix == "/services/dask-gateway"
    assert middlewares == [{"name": "clusters-prefix-binder-dask-gateway", "namespace": "binder"}]
    assert (address, seconds) == (":8000", 180)


_CULLER = """
from pangeo_binder.hub.cull import LaunchCuller
app = LaunchCuller()
app.load_config_file("config/culler.py")
print(json.dumps([app.cull_arbiter_hook.__name__, app.cull_users, app.remove_named_servers, app.user_seconds]))
"""


@pytest.mark.parametrize("example", NAMED)
def test_the_culler_asks_each_grant(example: Path, process: Run) -> None:
    assert process("culler", _CULLER, example) == ["should_cull", False, True, 300]


_HUB = """
from pathlib import Path
from jupyterhub.app import JupyterHub
Path("chart.py").write_text('c.JupyterHub.hub_connect_url = "http://hub:8081"\\nc.JupyterHub.services = []\\n'
    'c.JupyterHub.load_roles = [{"name": "operators"}]\\nc.KubeSpawner.mem_guarantee = "1G"\\n'
    'exec(open("config/hub.py").read())')
app = JupyterHub()
app.load_config_file("chart.py")
spawner = app.config[app.spawner_class.__name__]
settings = spawner.launch_objects.settings
clusters = spawner.provisioner._clusters
print(json.dumps([app.hub_connect_url, app.public_url, app.hub_routespec, app.config.Proxy.extra_routes,
    {service["name"]: service.get("url", "") for service in app.services}, [role["name"] for role in app.load_roles],
    [settings.release_namespace, settings.placement.prefix, settings.placement.shared, len(settings.blocked_networks)],
    {name: [dict(pods.node_selector), pods.priority_class] for name, pods in settings.placement.tiers.items()},
    [dict(settings.neighbours.proxy), dict(settings.neighbours.gateway), list(settings.cluster_kinds)],
    type(clusters).__name__, dict(clusters.environment), bool(settings.pull_login)]))
"""


def test_the_hub_is_wired_to_the_release(process: Run) -> None:
    hub, public, route, routes, services, roles, site, tiers, near, clusters, told, pull = process(
        "hub", _HUB, EXAMPLES[-1]
    )
    assert hub == "http://hub.binder.svc:8081", "sessions cannot use the chart's short name"
    assert (public, route, routes) == (
        "http://binder.localhost/",
        "binder.localhost/hub/",
        {"/": "http://binder.binder.svc:80"},
    )
    traefik = "http://traefik-binder-dask-gateway.binder.svc:80"
    assert services.pop("dask-gateway") == traefik and set(services) == {
        "binder", "storage", "culler", "namespaces", "launches", "status"
    }  # fmt: skip
    assert "operators" in roles and "pangeo-binder-binder" in roles, "the operator's roles are kept"
    assert site == ["binder", "launch", "", 5] and tiers == {"small": [{}, "binder-pangeo-binder-servers"]}
    assert near[1] == {"app.kubernetes.io/name": "dask-gateway", "app.kubernetes.io/instance": "binder"}
    assert clusters == "GatewayClusters" and told["DASK_GATEWAY__ADDRESS"] == f"{traefik}/services/dask-gateway"
    assert told["DASK_GATEWAY__PROXY_ADDRESS"] == "gateway://traefik-binder-dask-gateway.binder.svc:80" and not pull


def test_the_hub_uses_the_operator_if_it_is_the_backend(process: Run) -> None:
    example = next(path for path in EXAMPLES if path.stem == "azure")
    *_, services, _, _, _, near, clusters, _, pull = process("hub", _HUB, example)
    assert services["dask-gateway"] == "" and clusters == "OperatorClusters" and pull
    assert near[1] == {} and near[2] == ["daskclusters.kubernetes.dask.org"]
