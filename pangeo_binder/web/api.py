"""Endpoints for programs, compatible with BinderHub: `/health`, `/versions`, `/metrics` and `/api/repoproviders`.

Binder process.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from ..binderhub_metrics import BINDERHUB
from ..repos.base import Provider
from .context import Check
from .cors import ApiHandler

log = logging.getLogger("pangeo_binder.web")


class HealthApi(ApiHandler):
    """Health of the binder and its services: 200 or 503."""

    open_to_all, needs_login = True, False

    async def get(self) -> None:
        checks = await self._checks()
        ok = all(check.ok or check.informs for check in checks)
        self.set_status(HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE)
        self.set_header("Cache-Control", "no-store")
        self.finish({"ok": ok, "checks": [_check_wire(check) for check in checks]})

    head = get

    async def _checks(self) -> Sequence[Check]:
        try:
            return await self.shared.context.health()
        except Exception:  # monitoring must see a failing check as an unhealthy service
            log.exception("The health check failed with an error.")
            return [Check("binder", ok=False, message="The health check failed with an error.")]


class VersionsApi(ApiHandler):
    """Versions of the installed software. Pages of other sites may read it, because federations of binders do."""

    open_to_all, needs_person = True, False

    def get(self) -> None:
        self.set_header("Access-Control-Allow-Origin", "*")
        info, versions = dict(self.shared.context.builder_info), self.shared.context.versions
        builder = info.get("build_image") or f"pangeo-binder {versions.get('pangeo-binder', '')}".rstrip()
        self.finish({"builder_info": info, "builder": builder, "binderhub": "", **versions})


class MetricsApi(ApiHandler):
    """Prometheus metrics of this process."""

    open_to_all, needs_person = True, False

    def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(REGISTRY) + generate_latest(BINDERHUB))


class RepoProvidersApi(ApiHandler):
    """The kinds of repositories, in the format that BinderHub's link forms read."""

    def get(self) -> None:
        providers = [_provider_wire(provider) for provider in self.shared.context.providers]
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(providers))  # Tornado's `finish` refuses to encode a list


def _check_wire(check: Check) -> dict[str, Any]:
    body: dict[str, Any] = {"service": check.service, "ok": check.ok, "age_seconds": check.age_seconds, **check.counts}
    if check.message:
        body["message"] = check.message
    return {**body, "_ignore_failure": True} if check.informs else body  # BinderHub's name for it


def _provider_wire(provider: Provider) -> dict[str, Any]:
    form = provider.form
    ref = {"enabled": True, "default": form.default_ref} if form.default_ref else {"enabled": False}
    body: dict[str, Any] = {
        "id": provider.name,
        "displayName": provider.display_name,
        "spec": {"validateRegex": form.spec or (r"[^/]+/.+" if form.default_ref else r".+")},
        "repo": {"label": form.label, "placeholder": form.placeholder, "urlEncode": form.url_encode},
        "ref": ref,
    }
    return {**body, "detect": {"regex": form.detect}} if form.detect else body
