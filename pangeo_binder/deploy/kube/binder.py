"""Configures the binder on Kubernetes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...builders.kube.job import KubeBuildSettings
from ...builders.kube.registry import RegistrySettings
from ...launch.turns import BuildShares
from ...model import RepoRef
from ...repos.private import share_private
from ...web.context import Example
from ...web.limits import Limits
from .values import (
    BINDER_PORT,
    CONFIG,
    GITHUB_TOKEN,
    PRIVATE,
    REGISTRY_LOGIN,
    STATE,
    KubeValues,
    read_secret,
    read_values,
    size_bytes,
)

_KEEP_SECONDS = 30
"""How long Kubernetes keeps a finished Job: it still counts as a concurrent build; its log has been followed."""
_DRAIN_SECONDS = 60
"""Shorter than the pod's terminationGracePeriodSeconds in the chart."""
_POD_ADDRESS = "POD_IP"


def configure(c: Any) -> None:
    """Configure the binder."""
    values, keys = read_values(), read_secret("ticket-keys").split()
    binder = c.PangeoBinderHub
    binder.ip = ""
    binder.port = BINDER_PORT
    binder.base_url = binder.hub_url = "/"
    binder.hub_api_url = f"{values.hub_url}/hub/api"
    binder.hub_api_token = read_secret("hub-token")
    binder.ticket_keys = keys
    binder.policy_file = str(CONFIG / "policy.yaml")
    binder.cache_dir = str(STATE)
    binder.queue_seconds = float(values.binder.queue_seconds)
    binder.limits = _limits(values, keys[0])
    binder.enable_api_only_mode = values.binder.api_only
    binder.ask_first = False
    binder.auth, binder.https_only = values.binder.auth, values.binder.https
    binder.drain_seconds = float(_DRAIN_SECONDS)
    configure_repositories(binder, values)
    binder.kube_builds, binder.build_shares = build_settings(values), _shares(values)
    binder.notice, binder.about = values.binder.notice, list(values.binder.about)
    binder.examples = tuple(
        Example(each.title, each.description, RepoRef("git", each.url, each.ref), each.urlpath)
        for each in values.binder.examples
    )
    binder.health_urls = _health_urls(values)
    binder.log_level = values.log_level


def configure_repositories(binder: Any, values: KubeValues) -> None:
    """Configure the hosts of repositories, and which private ones links may name."""
    repositories = values.binder.repositories
    binder.github_address, binder.gitlab_address = repositories.github, repositories.gitlab
    binder.gist_address, binder.secret_gists = repositories.gist, repositories.secret_gists
    binder.github_api_address = repositories.github_api
    binder.internal_hosts = list(repositories.internal_hosts)
    binder.internal_networks = list(values.site.git_networks)
    binder.software_heritage_address = repositories.software_heritage
    binder.doi_resolver_address, binder.zenodo_address = repositories.doi_resolver, repositories.zenodo
    binder.figshare_address, binder.figshare_api_address = repositories.figshare, repositories.figshare_api
    binder.dataverse_addresses, binder.hydroshare_address = list(repositories.dataverse), repositories.hydroshare
    binder.ckan, binder.ckan_addresses = repositories.ckan, list(repositories.ckan_private)
    binder.github_token_file = str(GITHUB_TOKEN) if repositories.github_token_secret else ""
    binder.private_repositories = _private_files(values)


def _private_files(values: KubeValues) -> dict[str, str]:
    """Return the files of the tokens by the patterns of the private repositories."""
    private = enumerate(values.binder.repositories.private)
    return {each.pattern: str(PRIVATE / str(number) / "token") for number, each in private}


def _token_secret(values: KubeValues) -> Callable[[str], str] | None:
    """Return what names the Secret for the repository at a URL: that of the token with which the binder looks it up."""
    files = _private_files(values)
    if not files:
        return None
    shared = share_private(files)
    names = {Path(files[each.pattern]): each.secret for each in values.binder.repositories.private}

    def secret_of(url: str) -> str:
        file = shared.token_file(url)
        return names[file] if file else ""

    return secret_of


def _limits(values: KubeValues, key: str) -> Limits:
    binder = values.binder
    # the kubelet and Prometheus use the pod's own address; the proxy forwards the name that the user requested
    internal = ("binder", f"binder.{values.site.namespace}.svc", os.environ.get(_POD_ADDRESS, "localhost"))
    return Limits(
        build_token_key=key,
        build_token_seconds=binder.build_token_seconds,
        require_build_token=binder.require_build_token,
        rate_limit=binder.rate_limit,
        rate_seconds=binder.rate_seconds,
        banned_networks=binder.banned_networks,
        hosts=(*binder.hosts, *internal),
        cors_allow_origin=binder.cors_allow_origin,
        session_domain=values.session_domain,
    )


def _shares(values: KubeValues) -> BuildShares:
    builds = values.builds
    return BuildShares(
        concurrent=builds.concurrent,
        per_network=builds.per_network,
        per_repository=builds.per_repository,
        waiting=builds.waiting,
        grace_seconds=builds.grace_seconds,
    )


def build_settings(values: KubeValues) -> KubeBuildSettings:
    """Return the settings for builds from the values."""
    builds, registry = values.builds, values.registry
    memory = size_bytes(builds.memory)
    return KubeBuildSettings(
        timeout_seconds=builds.seconds,
        namespace=values.site.builds_namespace,
        image=values.site.builder_image,
        registry=RegistrySettings(
            address=registry.address,
            name=registry.name,
            push_address=registry.push_address,
            ask_address=registry.ask_address,
            plain_http=registry.plain_http,
            credentials=REGISTRY_LOGIN if registry.read_secret else None,
        ),
        push_secret=registry.push_secret,
        token_secret=_token_secret(values),
        plain_http_registries=(registry.push_address or registry.address,) if registry.plain_http else (),
        engine=builds.engine,
        cpu_request=min(0.5, builds.cpu),
        cpu_limit=builds.cpu,
        memory_request_bytes=memory,
        memory_limit_bytes=memory,
        disk_bytes=size_bytes(builds.disk),
        keep_seconds=_KEEP_SECONDS,
        pods=builds.pods(values.site.priority_classes.builds),
        base_image=builds.base_image,
        seccomp_profile=builds.seccomp_profile,
        apparmor_profile=builds.apparmor_profile,
        host_users=builds.host_users,
        runtime_class=builds.runtime_class_name,
    )


def _health_urls(values: KubeValues) -> dict[str, str]:
    urls = {"hub": f"{values.hub_url}/hub/health", "storage": f"{values.storage_admin_url}/health"}
    if values.dask.backend == "gateway":
        urls["gateway"] = f"{values.gateway_api_url}/api/health"
    return urls
