"""BinderHub's Prometheus series under its names, labels and buckets, for its operators' dashboards. Binder process.

Source: https://github.com/jupyterhub/binderhub/blob/main/binderhub/builder.py
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BINDERHUB = CollectorRegistry()
"""BinderHub's series: in a registry of their own, because importing BinderHub puts unused ones into the default one."""
BUILD_SECONDS = Histogram(
    "binderhub_build_time_seconds",
    "Time of builds, by status: success or failure.",
    ["status"],
    buckets=(60, 120, 300, 600, 1800, 3600, 7200),
    registry=BINDERHUB,
)
LAUNCH_SECONDS = Histogram(
    "binderhub_launch_time_seconds",
    "Time of the start of servers, by status: success or failure; `retries` is 0 for success, -1 for failure.",
    ["status", "retries"],
    buckets=(2, 5, 10, 20, 30, 60, 120, 300, 600),
    registry=BINDERHUB,
)
_BUILDS_OF_REPOSITORY = Counter(
    "binderhub_build_count",
    "Builds by repository; only the newest 500 repositories.",
    ["status", "provider", "repo"],
    registry=BINDERHUB,
)
_LAUNCHES_OF_REPOSITORY = Counter(
    "binderhub_launch_count",
    "Launches by repository, by status: success, failure or repo_quota; only the newest 500 repositories.",
    ["status", "provider", "repo"],
    registry=BINDERHUB,
)
BUILDS_IN_PROGRESS = Gauge("binderhub_inprogress_builds", "Running builds.", registry=BINDERHUB)
LAUNCHES_IN_PROGRESS = Gauge("binderhub_inprogress_launches", "Servers that are starting.", registry=BINDERHUB)
GITHUB_RATE_LIMIT = Gauge(
    "binderhub_github_rate_limit_remaining", "Requests left at GitHub's API, as it last answered.", registry=BINDERHUB
)

REPOSITORIES: Final = 500
"""How many repositories have series of their own: anybody can make more, and each would stay in every scrape."""
_REPOSITORY_CHARACTERS: Final = 200
PROVIDERS: Final = {
    **{"gh": "GitHub", "gl": "GitLab", "gist": "Gist", "git": "Git"},
    **{"zenodo": "Zenodo", "figshare": "Figshare", "dataverse": "Dataverse", "hydroshare": "Hydroshare"},
    "ckan": "CKAN",
}
"""BinderHub's names of providers."""


class _ByRepository:
    """A counter of the newest repositories."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._newest: OrderedDict[tuple[str, str], set[str]] = OrderedDict()

    def inc(self, status: str, provider: str, repository: str) -> None:
        """Count one; `status` comes from a short list, the repository from a link."""
        key = (PROVIDERS.get(provider, provider), repository[:_REPOSITORY_CHARACTERS])
        self._newest.setdefault(key, set()).add(status)
        self._newest.move_to_end(key)
        self._counter.labels(status, *key).inc()
        if len(self._newest) > REPOSITORIES:
            oldest, statuses = self._newest.popitem(last=False)
            for each in statuses:
                self._counter.remove(each, *oldest)


BUILDS_BY_REPOSITORY = _ByRepository(_BUILDS_OF_REPOSITORY)
LAUNCHES_BY_REPOSITORY = _ByRepository(_LAUNCHES_OF_REPOSITORY)
