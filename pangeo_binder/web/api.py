"""The addresses for programs: `/health`, `/versions`, `/metrics` and `/api/repoproviders`, as BinderHub has them.

Binder process.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from ..repos.base import Provider
from .context import Check
from .handler import BaseHandler

log = logging.getLogger("pangeo_binder.web")


class HealthApi(BaseHandler):
    """Whether the binder and what it depends on work: 200 or 503."""

    open_to_all = True

    async def get(self) -> None:
        checks = await self._checks()
        ok = all(check.ok for check in checks)
        self.set_status(HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE)
        self.set_header("Cache-Control", "no-store")
        self.finish({"ok": ok, "checks": [_check_wire(check) for check in checks]})

    head = get

    async def _checks(self) -> Sequence[Check]:
        try:
            return await self.site.context.health()
        except Exception:  # a check that breaks is a service that does not work, and monitoring must hear so
            log.exception("The health check itself failed.")
            return [Check("binder", ok=False, message="The health check itself failed.")]


class VersionsApi(BaseHandler):
    """What runs here. Open to other sites' pages, as federations of binders read it."""

    open_to_all = True

    def get(self) -> None:
        self.set_header("Access-Control-Allow-Origin", "*")
        self.finish({"builder_info": {}, "binderhub": "", **self.site.context.versions})


class MetricsApi(BaseHandler):
    """The Prometheus series of this process."""

    open_to_all = True

    def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(REGISTRY))


class RepoProvidersApi(BaseHandler):
    """The kinds of repositories, in the form of BinderHub's own link makers."""

    def get(self) -> None:
        providers = [_provider_wire(provider) for provider in self.site.context.providers]
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(providers))  # a list, which Tornado's own JSON refuses


def _check_wire(check: Check) -> dict[str, Any]:
    body: dict[str, Any] = {"service": check.service, "ok": check.ok}
    return {**body, "message": check.message} if check.message else body


def _provider_wire(provider: Provider) -> dict[str, Any]:
    form = provider.form
    ref = {"enabled": True, "default": form.default_ref} if form.default_ref else {"enabled": False}
    body: dict[str, Any] = {
        "id": provider.name,
        "displayName": provider.display_name,
        "spec": {"validateRegex": r"[^/]+/.+" if form.default_ref else r".+"},
        "repo": {"label": form.label, "placeholder": form.placeholder, "urlEncode": form.url_encode},
        "ref": ref,
    }
    return {**body, "detect": {"regex": form.detect}} if form.detect else body
