"""A launch and the hub's settings, for tests of a launch's objects in Kubernetes."""

from __future__ import annotations

from pangeo_binder import names
from pangeo_binder.hub.kube.settings import Binding, KubeSettings, Neighbours
from pangeo_binder.kube.placement import Placement
from pangeo_binder.model import ContainerImage, DaskGrant, Grant, Launch, Repo, RepoRef, ServerGrant, StorageGrant

GIB = 2**30


def a_launch(url: str = "https://example.org/org/sea", dask: bool = True) -> Launch:
    """Return a new launch of `url` with a small grant."""
    id_ = names.new_launch_id()
    clusters = DaskGrant(1, 4, 2.0, 4 * GIB, 0.5, GIB, 600) if dask else None
    grant = Grant("small", "r1", "Rule 1.", ServerGrant(0.5, GIB, 600, 3600), clusters, StorageGrant(GIB, 3600))
    repo = Repo(RepoRef("git", url, "main"), "a" * 40)
    return Launch(id_, f"sea-{id_}", "", repo, ContainerImage("e", f"registry/e@sha256:{'b' * 64}"), grant)


def some_settings(shared: str = "", **changes: object) -> KubeSettings:
    """Return the settings of a deployment in the namespace `binder`, whose launches may share a namespace."""
    neighbours = Neighbours({"c": "hub"}, {"c": "proxy"}, {"c": "storage"}, {"c": "gateway"})
    defaults = {"bindings": (Binding("launch-gateway", "gateway", "binder"),)}
    return KubeSettings("binder", neighbours, Placement(shared=shared), **{**defaults, **changes})
