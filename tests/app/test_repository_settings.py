"""The chart's values of repository hosts reach the binder, and both have the same defaults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pangeo_binder.app import PangeoBinderHub
from pangeo_binder.builders.kube.job import KubeBuildSettings
from pangeo_binder.builders.kube.registry import RegistrySettings
from pangeo_binder.deploy.kube.binder import configure_repositories
from pangeo_binder.deploy.kube.values import RepositoryValues
from pangeo_binder.repos.github_api import GitHubApiSettings
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


def test_an_enterprise_has_its_own_api_and_not_the_public_ones_token() -> None:
    public = PangeoBinderHub(github_token_file="/run/token")._repository_hosts()
    assert public.own_api == public.github_api and public.own_api.token_file
    own = PangeoBinderHub(github_address="https://ghe.example.org", github_token_file="/run/token")._repository_hosts()
    assert own.own_api == GitHubApiSettings("https://ghe.example.org/api/v3")
    named = replace(own, github_api=GitHubApiSettings("https://api.ghe.example.org", Path("/run/token")))
    assert named.own_api == named.github_api


def test_the_token_of_a_private_repository_is_for_git_alone_and_off_by_default() -> None:
    """The token of GitHub's API is never for git."""
    url, token = "https://github.com/org/sea", "/run/token"
    off = PangeoBinderHub(github_token_file=token)
    on = PangeoBinderHub(private_repositories={"gh/org/*": token})
    for app, file in ((off, None), (on, Path(token))):
        found = [each._access for each in app._make_providers() if each.name in ("gh", "gl", "git")]
        assert [access.token_files(url) for access in (*found, app._git_access)] == [file] * 4
    assert on._repository_hosts().github_api.token_file is None


def test_a_private_repository_is_refused_where_build_pods_have_no_secret_for_it() -> None:
    app = PangeoBinderHub(private_repositories={"gh/org/*": "/run/token"})
    app.kube_builds = KubeBuildSettings(namespace="builds", image="builder:1", registry=RegistrySettings("registry/x"))
    with pytest.raises(ValueError, match="needs a Secret for build pods"):
        app._make_providers()
    app.kube_builds = replace(app.kube_builds, token_secret=lambda url: "org-repositories")
    assert app._make_providers()
