"""The chart's values of repository hosts reach the binder, and both have the same defaults."""

from __future__ import annotations

from types import SimpleNamespace

from pangeo_binder.app import PangeoBinderHub
from pangeo_binder.deploy.kube.binder import configure_repositories
from pangeo_binder.deploy.kube.values import RepositoryValues
from pangeo_binder.repos.registry import RepositoryHosts


def test_the_charts_values_are_the_binders_defaults() -> None:
    binder = SimpleNamespace()
    values = SimpleNamespace(
        binder=SimpleNamespace(repositories=RepositoryValues()), site=SimpleNamespace(git_networks=())
    )
    configure_repositories(binder, values)  # type: ignore[arg-type]
    traits = PangeoBinderHub.class_traits()
    assert {name: traits[name].default() for name in vars(binder)} == vars(binder)
    assert PangeoBinderHub()._repository_hosts() == RepositoryHosts()


def test_each_setting_reaches_its_provider() -> None:
    other = "https://archive.example.org"
    app = PangeoBinderHub(zenodo_address=other, figshare_address="", ckan=False, ckan_addresses=[other])
    hosts = app._repository_hosts()
    assert (hosts.zenodo, hosts.figshare, hosts.ckan, hosts.ckan_sites) == (other, "", False, (other,))
