"""Every Prometheus metric of the project, in one table.

A process uses only the metrics of its own component. BinderHub's series are in `binderhub_metrics`; no other module
defines metrics. Names follow https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LAUNCHES = Counter(
    "pangeo_binder_launches_total",
    "Launches that ended, by outcome: ready, built (only a build), left, or a failure's reason.",
    ["outcome"],
)
LAUNCH_STAGE_SECONDS = Histogram(
    "pangeo_binder_launch_stage_seconds",
    "Time a launch spent in each stage.",
    ["stage"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1200),
)
LAUNCHES_IN_PROGRESS = Gauge("pangeo_binder_launches_in_progress", "Launches whose user is waiting.")
BUILDS = Counter(
    "pangeo_binder_builds_total",
    "Builds that ended, by outcome: built, failed, unfollowed (nobody waited any more), or cancelled.",
    ["outcome"],
)
BUILDS_IN_PROGRESS = Gauge("pangeo_binder_builds_in_progress", "Running builds.")
BUILDS_WAITING = Gauge("pangeo_binder_builds_waiting", "Builds that wait for a slot.")
BUILD_FOLLOWERS = Gauge("pangeo_binder_build_followers", "Launches that follow a running build.")
PEERS_REFUSED = Gauge(
    "pangeo_binder_peers_refused",
    "Services that do not answer and are not called now: hub, registry, repository_host, storage, gateway.",
    ["kind"],
)
PEER_CALLS = Counter(
    "pangeo_binder_peer_calls_total",
    "Calls of other services, by outcome: answered, failed (no answer), refused (not made), or left.",
    ["kind", "outcome"],
)
SERVERS = Gauge("pangeo_binder_servers", "Servers starting or running, as the hub last reported, by tier.", ["tier"])
TICKETS = Counter("pangeo_binder_tickets_total", "Tickets verified by the hub, by outcome.", ["outcome"])
CULLED = Counter("pangeo_binder_culled_total", "Cleanups of ended servers, by outcome.", ["component", "outcome"])
CLUSTERS_REAPED = Counter("pangeo_binder_clusters_reaped_total", "Clusters stopped because their server no longer ran.")
DASK_REFUSALS = Counter(
    "pangeo_binder_dask_refusals_total", "Refusals by Kubernetes for Dask clusters, with the reason.", ["what", "why"]
)
DASK_FAILURES = Counter("pangeo_binder_dask_failures_total", "Dask clusters that failed on Kubernetes.")
STORAGE_REQUESTS = Counter("pangeo_binder_storage_requests_total", "Requests to the S3 front.", ["operation", "status"])
STORAGE_BYTES = Counter("pangeo_binder_storage_bytes_total", "Bytes through the S3 front, in or out.", ["direction"])
STORAGE_LAUNCHES = Gauge("pangeo_binder_storage_launches", "Launches with valid storage credentials.")
STORAGE_GRANTED_BYTES = Gauge("pangeo_binder_storage_granted_bytes", "Scratch granted to launches that are not pruned.")
STORAGE_VOLUME_BYTES = Gauge("pangeo_binder_storage_volume_bytes", "Size of the volume that holds scratch.")
