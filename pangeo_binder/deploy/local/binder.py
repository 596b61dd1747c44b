"""Configures the binder for the local profile."""

from __future__ import annotations

import os
from typing import Any

from ...launch.turns import BuildShares
from ...loopback import LOOPBACK, LOOPBACK_NAMES
from ...model import RepoRef
from ...web.context import Example
from ...web.limits import Limits
from .examples import example_repositories
from .values import LocalValues, read_values


def configure(c: Any, state_dir: str) -> None:
    """Configure the binder of the stack at `state_dir`."""
    values = read_values(state_dir)
    binder = c.PangeoBinderHub
    binder.ip = LOOPBACK
    binder.port = values.ports.binder
    # launched code runs as the user who started the stack, so another site's page must not start it without asking
    binder.limits = Limits(
        build_token_key=values.secrets.ticket_keys[0],
        hosts=LOOPBACK_NAMES,
        cors_allow_origin=" ".join(values.options.allow_origins),
    )
    binder.ask_first = True
    binder.login_token = values.binder_token
    binder.auth = values.options.auth
    binder.base_url = "/"
    binder.hub_url = values.public_url
    binder.hub_api_url = values.hub_api
    binder.hub_api_token = os.environ["JUPYTERHUB_API_TOKEN"]
    binder.ticket_keys = values.secrets.ticket_keys
    binder.cache_dir = str(values.folder("cache"))
    binder.policy_file = str(values.policy or "")
    binder.queue_seconds = values.options.queue_seconds
    binder.build_seconds = values.options.build_seconds
    builds, grace = values.options.builds, values.options.build_grace_seconds
    binder.build_shares = BuildShares(concurrent=builds, per_network=builds, per_repository=builds, grace_seconds=grace)
    binder.drain_seconds = 0  # all servers end with the stack
    binder.allow_local_repositories = True
    binder.github_address, binder.gitlab_address = values.options.github, values.options.gitlab
    binder.private_repositories = dict(values.options.private)
    binder.examples = tuple(
        Example(found.title, found.description, RepoRef("git", found.url, "HEAD"), found.urlpath)
        for found in example_repositories(values.folder("examples"))
    )
    binder.health_urls = _health_urls(values)


def _health_urls(values: LocalValues) -> dict[str, str]:
    return {
        "hub": f"{values.hub_api}/",
        "gateway": f"{values.gateway_url}/api/health",
        "storage": f"{values.storage_admin_url}/health",
    }
