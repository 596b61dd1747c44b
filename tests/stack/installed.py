"""Releases of the whole chart on the test cluster, with images built here, and a client for them.

Tests fetch nothing from chart repositories, so the dependencies are the small stand-in charts of `tests/chart`: a real
JupyterHub, configurable-http-proxy, dask-gateway and traefik under the official names and labels. To run the same
tests with the official charts, unpack them in a folder and set `PANGEO_BINDER_CHARTS=<folder>`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask_kubernetes

from .images import ROOT, archive, image, stand_in_archive
from .local import Answer, events_of, request, until
from .node import Cluster

IMAGES = ("binder", "storage", "hub", "dask-gateway", "builder")
STAND_INS = ("proxy", "traefik", "operator")
NOTEBOOK = "notebook:1"
DEPENDENCIES = os.environ.get("PANGEO_BINDER_CHARTS") or ROOT / "tests" / "chart" / "stand-ins"
"""The folder with the dependency charts."""
OPERATOR_CHART = Path(dask_kubernetes.__file__).parent / "operator/deployment/helm/dask-kubernetes-operator"
"""The chart of the dask-kubernetes operator, from the Python package."""
OPERATOR, OPERATOR_NAMESPACE = "dask-kubernetes-operator", "dask-operator"
PASSWORD = "of-all-people-of-the-tests"
"""What everybody signs in with, where people can."""
_INSTALL_SECONDS = 240
_VOLUMES = ("hub-db-dir", "pangeo-binder-storage")


@dataclass(frozen=True)
class Release:
    """A variant of the release, named like its namespace; one cluster may hold several."""

    name: str
    prefix: str = "launch"
    """The prefix of its launches' namespaces."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Values in addition to the common ones."""
    shared: bool = False
    """Whether all launches share one namespace."""

    def namespace(self, launch_id: str) -> str:
        """Return the namespace of a launch."""
        return f"{self.prefix}-{'shared' if self.shared else launch_id}"


BINDER = Release("binder")
SHARED = Release("together", "room", {"launches": {"layout": "shared", "prefix": "room", "pullLogin": True}}, True)
APART = Release(
    "apart",
    "wing",
    {
        "launches": {"prefix": "wing"},
        "logFormat": "json",
        "binder": {"hosts": ["binder.test"], "subdomains": True, "auth": "offered"},
        "jupyterhub": {
            "proxy": {"chp": {"extraCommandLineFlags": ["--host-routing"]}},
            "hub": {
                "config": {
                    "JupyterHub": {"authenticator_class": "dummy"},
                    "Authenticator": {"allow_all": True},
                    "DummyAuthenticator": {"password": PASSWORD},
                }
            },
        },
    },
)
OPERATED = Release(
    "operated",
    "crew",
    {
        "launches": {"prefix": "crew", "pullLogin": True},
        "dask": {"backend": "operator"},
        "dask-gateway": {"enabled": False},
        "policy": {"tiers": {"small": {"dask": {"start_workers": 1}}}},
    },
)


@dataclass(frozen=True)
class Installed:
    """A running release of the chart at `url`."""

    cluster: Cluster
    url: str
    notebook: str
    """The notebook image's reference in the cluster's registry, for a Dockerfile's FROM."""
    release: Release = BINDER

    @property
    def namespace(self) -> str:
        """The release's own namespace."""
        return self.release.name

    def launch(self, repo: str, ref: str = "HEAD") -> Launched:
        """Launch and return the session; fail with the log if it does not start."""
        events = list(events_of(self.url, repo, ref))
        if events[-1]["phase"] != "ready":
            lines = "".join(str(event.get("message", "")) for event in events[-40:])
            raise AssertionError(f"{lines}\n{self.logs('hub')}\n{self.logs('binder')}")
        failures = [event["message"] for event in events if "could be made now" in str(event.get("message"))]
        assert not failures, f"{failures}\n{self.logs('hub')}"
        return Launched(self, events)

    def answers(self) -> bool:
        """Return whether the release answers: its Service is routed some time after its pods are ready."""
        try:
            return request(f"{self.url}health").status == 200
        except OSError:
            return False

    def logs(self, deployment: str) -> str:
        """Return the end of a deployment's log."""
        return self.cluster.kubectl("logs", "-n", self.namespace, f"deploy/{deployment}", "--tail=80", check=False)


class Launched:
    """A launched server, with the events of its launch."""

    def __init__(self, release: Installed, events: list[dict[str, Any]]) -> None:
        self.release, self.events = release, events
        event = events[-1]
        self.url, self.token, self.id = event["url"], event["token"], event["launch_id"]
        self.namespace = release.release.namespace(self.id)

    def request(self, path: str, method: str = "GET", body: Any = None) -> Answer:
        """Send a request to the server, with its token."""
        return request(f"{self.url}{path}", method, body, Authorization=f"token {self.token}")

    @property
    def server(self) -> dict[str, Any]:
        """The server's pod."""
        pod: dict[str, Any] = self.release.cluster.get("pod", f"server-{self.id}", "-n", self.namespace)
        return pod

    def pods(self, component: str = "") -> list[dict[str, Any]]:
        """Return the launch's pods, or those of one component (`dask-scheduler`, `dask-worker`)."""
        return self.objects("pods", *([f"app.kubernetes.io/component={component}"] if component else []))

    def objects(self, kinds: str, *labels: str) -> list[dict[str, Any]]:
        """Return the objects of `kinds` with the launch's label and `labels`."""
        chosen = f"--selector={','.join([f'pangeo-binder/launch={self.id}', *labels])}"
        found: list[dict[str, Any]] = self.release.cluster.get(kinds, "-n", self.namespace, chosen)["items"]
        return found

    def stop(self) -> None:
        """End the session as its user would."""
        assert self.request("api/shutdown", "POST").status == 200


def values(cluster: Cluster) -> dict[str, Any]:
    """Return the values of the test release: small requests, and images that the node already has."""

    def own(name: str) -> dict[str, str]:
        reference, tag = image(name).rsplit(":", 1)
        return {"name": reference, "tag": tag}

    small = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}
    return {
        "policy": json.loads((Path(__file__).with_name("installed_policy.json")).read_text()),
        "binder": {
            "hosts": [cluster.address],
            "https": False,
            "subdomains": False,
            "resources": small,
            "queueSeconds": 60,
            "rateLimit": 1000,
        },
        "builds": {"cpu": 1, "memory": "2Gi", "disk": "10Gi", "seconds": 600},
        "registry": {
            "address": cluster.registry,
            "plainHttp": True,
            "networks": [f"{cluster.host}/32"],
            "allowAnonymousPush": True,
        },
        "networkPolicies": {
            "gitNetworks": [f"{cluster.host}/32"],
            "apiServer": {"networks": [f"{cluster.host}/32"], "ports": [cluster.port]},
        },
        "storage": {"size": "1Gi", "resources": small},
        "dask": {"scheduler": {"cpu": 0.1, "memory": "512Mi"}, "resources": small},
        "images": {"pullPolicy": "Never", **{name: own(name) for name in ("binder", "storage", "builder")}},
        "jupyterhub": {
            "hub": {"image": own("hub"), "resources": small},
            "proxy": {"service": {"type": "NodePort"}, "chp": {"image": own("proxy"), "extraCommandLineFlags": []}},
        },
        "dask-gateway": {
            "gateway": {"image": own("dask-gateway")},
            "traefik": {"image": own("traefik")},
        },
    }


def load_images(cluster: Cluster) -> str:
    """Load the images of all releases on the node; return the notebook image's reference, for Dockerfiles."""
    cluster.load(*map(archive, IMAGES), *map(stand_in_archive, STAND_INS))
    return cluster.push(archive("notebook"), NOTEBOOK)


@contextmanager
def installed(cluster: Cluster, folder: Path, notebook: str, release: Release = BINDER) -> Iterator[Installed]:
    """Install the chart, wait until it is ready, and yield the release."""
    chart = folder / "pangeo-binder"
    shutil.copytree(ROOT / "helm-chart" / "pangeo-binder", chart, ignore=shutil.ignore_patterns("charts"))
    shutil.copytree(DEPENDENCIES, chart / "charts")
    (folder / "values.json").write_text(json.dumps(values(cluster)))
    (folder / "more.json").write_text(json.dumps(release.more))
    cluster.apply(*_volumes(folder, release), *_pull_login(cluster, release))
    files = [f"--values={folder}/{name}.json" for name in ("values", "more")]
    helm(cluster, release.name, "upgrade", "--install", release.name, chart, *files)
    port = cluster.kubectl(
        "get", "service", "proxy-public", "-n", release.name, "-o", "jsonpath={.spec.ports[0].nodePort}"
    ).strip()
    (host,) = release.more.get("binder", {}).get("hosts", [cluster.address])
    running = Installed(cluster, f"http://{host}:{port}/", notebook, release)
    until("the release answers", running.answers, 60)
    yield running


def helm(cluster: Cluster, namespace: str, *arguments: object) -> None:
    """Run helm, and wait until the objects it created are ready."""
    waiting = ["--namespace", namespace, "--create-namespace", "--wait", f"--timeout={_INSTALL_SECONDS}s"]
    command = [cluster.tools.helm, f"--kubeconfig={cluster.kubeconfig}", *arguments, *waiting]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        state = cluster.kubectl("get", "pods,jobs,pvc", "-A", check=False)
        events = cluster.kubectl("get", "events", "-n", namespace, "--field-selector=type=Warning", check=False)
        raise AssertionError(f"{done.stderr}\n{state}\n{events}")


def _pull_login(cluster: Cluster, release: Release) -> Iterator[dict[str, Any]]:
    """Yield a registry login as an operator creates it: a Secret that exists before the release."""
    if not release.more.get("launches", {}).get("pullLogin"):
        return
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": release.name}}
    login = {"auths": {cluster.registry: {"username": "reader", "password": "of-a-test"}}}
    yield {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "pangeo-binder-pull", "namespace": release.name},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": json.dumps(login)},
    }


def _volumes(folder: Path, release: Release) -> Iterator[dict[str, Any]]:
    """Yield volumes for the release's claims: directories of the machine, because the cluster has no provisioner."""
    for claim in _VOLUMES:
        path = folder / claim
        path.mkdir(mode=0o777)
        path.chmod(0o777)
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{release.name}-{claim}"},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "claimRef": {"namespace": release.name, "name": claim},
                "hostPath": {"path": str(path)},
            },
        }
