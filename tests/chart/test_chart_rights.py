"""The chart's permissions are those that the code needs: hub and binder do their work with no others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import yaml

from pangeo_binder.builders.kube.job import job_manifest
from pangeo_binder.builders.kube.jobs import ClusterUnavailable, Jobs
from pangeo_binder.deploy.kube.binder import build_settings
from pangeo_binder.deploy.kube.hub import kube_settings
from pangeo_binder.deploy.kube.values import KubeValues
from pangeo_binder.hub.kube.launch_objects import LaunchObjects
from pangeo_binder.kube.api import KubeApi
from pangeo_binder.model import ContainerImage, DaskGrant, Grant, Launch, Repo, RepoRef, ServerGrant, StorageGrant
from pangeo_binder.names import new_launch_id
from tests.chart.conftest import Helm
from tests.chart.test_chart_values import EXAMPLES
from tests.stack.control_plane import ControlPlane
from tests.stack.local import until

GIB = 2**30
SHARED = next(path for path in EXAMPLES if path.stem == "on-premises")
REPO = Repo(RepoRef("git", "https://git.example.org/some", "HEAD"), "0" * 40)


def a_launch() -> Launch:
    """Return a launch of the first tier."""
    id_ = new_launch_id()
    server = ServerGrant(cpu=1, memory_bytes=GIB, idle_seconds=600, max_age_seconds=3600)
    dask = DaskGrant(1, 2, 2, 2 * GIB, 1, GIB, 600)
    grant = Grant(tier="small", rule="r1", reason="", server=server, dask=dask, storage=StorageGrant(GIB, 60))
    return Launch(
        id=id_, user=f"some-{id_}", server="", repo=REPO, environment=ContainerImage("e", "image"), grant=grant
    )


@pytest.fixture(scope="module", params=[EXAMPLES[-1], SHARED], ids=["per-launch", "shared"])
def values(request: pytest.FixtureRequest, helm: Helm, plane: ControlPlane) -> Iterator[KubeValues]:
    """Yield the values of an installed release."""
    name = f"rights-{request.param.stem}"
    common = ["-n", name, "--kubeconfig", plane.kubeconfig]
    more = ["--create-namespace", "--no-hooks", "-f", request.param, "--set", "launches.pullLogin=false"]
    done = helm.run("install", name, helm.chart, *common, *more)
    assert done.returncode == 0, done.stderr
    config = plane.get("configmap", "pangeo-binder", "-n", name)["data"]
    yield KubeValues.model_validate(yaml.safe_load(config["values.yaml"]))
    helm.run("uninstall", name, *common)


async def test_the_hub_creates_and_deletes_a_launchs_objects(values: KubeValues, control_plane: ControlPlane) -> None:
    api, launch = KubeApi(str(control_plane.kubeconfig_for(f"{values.site.namespace}/hub"))), a_launch()
    objects = LaunchObjects(kube_settings(values), api)
    place = objects.settings.placement.namespace(launch)
    try:
        await objects.make(launch)
        await objects.keep("session", launch, {"JUPYTER_TOKEN": "secret"})
        names = [
            each["metadata"]["name"] for each in control_plane.get("secrets,networkpolicies", "-n", place)["items"]
        ]
        assert len(names) == 2 and all(name.startswith(("session", "launch")) for name in names)
        bound = control_plane.get("rolebindings", "-n", place)["items"]
        assert {each["metadata"]["name"] for each in bound} >= {
            "pangeo-binder-gateway",
            "pangeo-binder-dask-controller",
        }
        await objects.remove(launch)
        until("nothing of the launch is left", lambda: _gone(control_plane, place, launch.id))
    finally:
        await api.close()


def _gone(plane: ControlPlane, place: str, launch_id: str) -> bool:
    found = plane.kubectl(
        "get", "networkpolicies", "-n", place, "-l", f"pangeo-binder/launch={launch_id}", "-o", "name"
    )
    return not found.strip()


async def test_the_binder_makes_follows_and_removes_builds(values: KubeValues, control_plane: ControlPlane) -> None:
    settings = build_settings(values)
    kubeconfig = str(control_plane.kubeconfig_for(f"{values.site.namespace}/pangeo-binder-binder"))
    jobs = Jobs(settings.namespace, kubeconfig)
    try:
        job = await jobs.create(job_manifest("some", REPO, settings))
        for _ in range(100):  # the policy for builds lets in the pod that the Job makes
            if found := await jobs.pod(job):
                break
            await asyncio.sleep(0.2)
        assert found, control_plane.kubectl("describe", "job", "-n", settings.namespace)
        await jobs.delete(job)
        elsewhere = Jobs(values.site.namespace, kubeconfig)
        with pytest.raises(ClusterUnavailable, match="status 403"):
            await elsewhere.get("build-some")
        await elsewhere.close()
    finally:
        await jobs.close()
