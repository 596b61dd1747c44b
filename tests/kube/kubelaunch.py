"""A launch as the hub knows it, for tests of what is made of it in Kubernetes."""

from __future__ import annotations

from pangeo_binder import names
from pangeo_binder.hub.kube.settings import Binding, KubeSettings, Neighbours
from pangeo_binder.model import DaskGrant, Environment, Grant, Launch, Repo, RepoRef, ServerGrant, StorageGrant

GIB = 2**30


def a_launch(url: str = "https://example.org/org/sea", dask: bool = True) -> Launch:
    """Return a new launch of `url` with a small grant."""
    id_ = names.new_launch_id()
    clusters = DaskGrant(1, 4, 2.0, 4 * GIB, 0.5, GIB, 600) if dask else None
    grant = Grant("small", "r1", "Rule 1.", ServerGrant(0.5, GIB, 600, 3600), clusters, StorageGrant(GIB, 3600))
    repo = Repo(RepoRef("git", url, "main"), "a" * 40)
    return Launch(id_, f"sea-{id_}", "", repo, Environment("e", f"registry/e@sha256:{'b' * 64}"), grant)


def a_site(**changes: object) -> KubeSettings:
    """Return a deployment in the namespace `binder`."""
    near = Neighbours({"c": "hub"}, {"c": "proxy"}, {"c": "storage"}, {"c": "gateway"})
    kept = {"bindings": (Binding("launch-gateway", "gateway", "binder"),)}
    return KubeSettings("binder", near, **{**kept, **changes})
