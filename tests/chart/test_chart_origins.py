"""Where sessions are in the browser: what the chart routes, and how it configures hub, binder and proxy for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.chart.conftest import Helm
from tests.chart.test_chart_processes import _HUB, Run, process
from tests.chart.test_chart_templates import one
from tests.chart.test_chart_values import EXAMPLES, NAMED

__all__ = ["process"]

TOGETHER = {"binder": {"subdomains": False}, "jupyterhub": {"proxy": {"chp": {"extraCommandLineFlags": []}}}}


@pytest.fixture
def together(tmp_path: Path) -> Path:
    """The values of the single node, with one origin for all sessions."""
    values = yaml.safe_load(EXAMPLES[-1].read_text())
    values["binder"] |= TOGETHER["binder"]
    values["jupyterhub"] |= TOGETHER["jupyterhub"]
    path = tmp_path / "together.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("example", NAMED)
def test_every_example_routes_each_sessions_own_host(example: Path, helm: Helm) -> None:
    manifests = helm.template("-f", example)
    (entry,) = [each for each in manifests if each["kind"] in ("Ingress", "HTTPRoute")]
    host = yaml.safe_load(example.read_text())["binder"]["hosts"][0]
    named = entry["spec"].get("hostnames") or [rule["host"] for rule in entry["spec"]["rules"]]
    assert named == [host, f"*.{host}"]
    assert all(tls["hosts"] == named for tls in entry["spec"].get("tls", [])), "the certificate covers both"
    (container,) = one(manifests, "Deployment", "proxy")["spec"]["template"]["spec"]["containers"]
    assert "--host-routing" in container["args"]


def test_with_one_origin_only_the_services_hosts_are_routed(helm: Helm, together: Path) -> None:
    manifests = helm.template("-f", together)
    (entry,) = [each for each in manifests if each["kind"] == "Ingress"]
    assert [rule["host"] for rule in entry["spec"]["rules"]] == ["binder.localhost"]
    (container,) = one(manifests, "Deployment", "proxy")["spec"]["template"]["spec"]["containers"]
    assert "--host-routing" not in container["args"]


_ORIGINS = (
    _HUB.replace("print(", "_ = (")
    + """
print(json.dumps([app.subdomain_host, app.hub_routespec, app.proxy_class.__name__, app.cookie_host_prefix_enabled,
    app.config.Proxy.extra_routes, clusters.environment["DASK_GATEWAY__PUBLIC_ADDRESS"],
    app.proxy_class(parent=app, app=app, config=app.config).extra_routes]))
"""
)
_ROUTES = {"/": "http://binder.binder.svc:80"}


def test_the_hub_gives_each_session_its_host(process: Run) -> None:
    example = next(path for path in EXAMPLES if path.stem == "aws")
    assert process("hub", _ORIGINS, example) == [
        "https://binder.example.org",
        "binder.example.org/hub/",
        "HostRoutingProxy",
        True,
        _ROUTES,
        "https://dask-gateway--service.binder.example.org/services/dask-gateway",
        _ROUTES,
    ]


def test_without_https_cookies_cannot_have_the_prefix(process: Run) -> None:
    host, route, _, prefixed, *_ = process("hub", _ORIGINS, EXAMPLES[-1])
    assert (host, route, prefixed) == ("http://binder.localhost", "binder.localhost/hub/", False)


def test_with_one_origin_the_hub_routes_by_path(process: Run, together: Path) -> None:
    host, route, proxy, prefixed, routes, dashboards, _ = process("hub", _ORIGINS, together)
    assert (host, route, proxy, prefixed) == ("", "/hub/", "ConfigurableHTTPProxy", False)
    assert (routes, dashboards) == (_ROUTES, "/services/dask-gateway")


_DOMAIN = """
from pangeo_binder.app import PangeoBinderHub
app = PangeoBinderHub()
app.initialize(["-f", "config/binder.py"])
print(json.dumps(app.limits.session_domain))
"""


def test_the_binder_knows_where_sessions_are(process: Run) -> None:
    assert process("binder", _DOMAIN, EXAMPLES[-1]) == "binder.localhost"


def test_the_binder_knows_that_sessions_have_its_own_host(process: Run, together: Path) -> None:
    assert process("binder", _DOMAIN, together) == ""
