"""What a launch's Dask cluster is for the dask-kubernetes operator: its DaskCluster, autoscaler, Secret; pure.

Everything that bounds a cluster is in here, because a session has no access to any of these objects. Facts about the
operator are those of dask-kubernetes 2026.3 (https://kubernetes.dask.org/en/latest/operator.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from .... import names
from ....kube.pods import TierPods, restricted_container, restricted_pod
from ....limits import GIB, ClusterLimits, cluster_limits
from ....model import DaskGrant, Launch
from ...kube.manifests import SERVER_ANNOTATION, launch_labels

GROUP, VERSION = "kubernetes.dask.org", "v1"
CLUSTERS, AUTOSCALERS = "daskclusters", "daskautoscalers"
"""The resources of `GROUP` that the hub makes."""
CLUSTER_LABEL = "dask.org/cluster-name"
"""The operator's own, on each Deployment and pod of a cluster."""
KEYS_SECRET = "dask-keys"  # noqa: S105 - its name
OPERATOR_POLICY = "dask-operator"
_COMM_PORT, _DASHBOARD_PORT = 8786, 8787
_WORKER_DEATH_SECONDS = 60
_TERMINATION_SECONDS = 10
"""How long pods get to end by themselves: they have nothing to save, and their quota is wanted by the next ones."""

# the scheduler tells the operator over HTTP what it wants; this route is not among those a scheduler has by itself
_ROUTES = ("api", "prometheus", "info", "json")
_ROUTE_MODULES = [*(f"distributed.http.scheduler.{name}" for name in _ROUTES)]
_ROUTE_MODULES += ["distributed.http.health", "distributed.http.proxy", "distributed.http.statics"]


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """How a deployment wants the clusters of its launches.

    There is no shared namespace: the operator deletes the Deployments that a scheduler names, and a scheduler runs
    launched code, so in a shared one launches could end each other's workers.
    """

    prefix: str = "launch"
    """Of the launches' own namespaces."""
    tiers: Mapping[str, TierPods] = field(default_factory=dict)
    """What pods of a tier run on; a tier without an entry has no placement of its own."""
    scheduler_cores: float = 0.25
    """What a scheduler is sure to get."""
    scheduler_cores_limit: float = 1
    scheduler_memory_bytes: int = GIB
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    """Names of Secrets in the launch's namespace with which its image is pulled."""
    operator_namespace: str = "dask-operator"
    """Where the operator runs: the namespace its documentation installs it in."""
    operator_labels: Mapping[str, str] = field(
        default_factory=lambda: {"app.kubernetes.io/name": "dask-kubernetes-operator"}
    )
    """Of its pods; those of its chart."""
    start_seconds: float = 180
    """How long a scheduler may take until it is ready."""

    def namespace(self, launch: Launch) -> str:
        """Return the launch's own namespace."""
        return names.launch_namespace(self.prefix, launch.id)


def cluster_name(launch: Launch) -> str:
    """Return the name of the launch's one cluster, 17 characters of the operator's 53."""
    return f"dask-{launch.id}"


def limits_of(grant: DaskGrant) -> ClusterLimits:
    """Return the limits of the launch's one cluster: there is no second one, so it may have the whole grant."""
    return cluster_limits(replace(grant, clusters=1), grant.worker_cores, grant.worker_memory_bytes)


def session_variables(launch: Launch, settings: OperatorSettings, keys: Mapping[str, str]) -> Mapping[str, str]:
    """Return what a session needs to reach its cluster with a plain `Client()`; `keys` make them secret."""
    assert launch.grant.dask is not None
    told = {
        "DASK_SCHEDULER_ADDRESS": _address(launch, settings),
        "PANGEO_BINDER_DASHBOARD": f"http://{_host(launch, settings)}:{_DASHBOARD_PORT}",
        "PANGEO_BINDER_MOST_WORKERS": str(limits_of(launch.grant.dask).workers),
    }
    return MappingProxyType({**told, **keys})


def keys_secret(launch: Launch, keys: Mapping[str, str]) -> dict[str, Any]:
    """Return the Secret with the keys of the cluster's encryption, as variables of its pods."""
    return {"metadata": {"name": KEYS_SECRET, "labels": _labels(launch)}, "stringData": dict(keys)}


def operator_policy(launch: Launch, settings: OperatorSettings) -> dict[str, Any]:
    """Return the NetworkPolicy that lets the operator ask the scheduler over HTTP, and the launch's own pods in.

    They are in it because whoever is not is kept out where it is the only policy.
    """
    mine = {"podSelector": {"matchLabels": {names.LAUNCH_LABEL: launch.id}}}
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.operator_namespace}},
        "podSelector": {"matchLabels": dict(settings.operator_labels)},
    }
    spec = {
        "podSelector": {"matchLabels": _scheduler_labels(launch)},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [mine]}, {"from": [operator], "ports": [{"port": _DASHBOARD_PORT, "protocol": "TCP"}]}],
    }
    return {"metadata": {"name": OPERATOR_POLICY, "labels": _labels(launch)}, "spec": spec}


def dask_autoscaler(launch: Launch) -> dict[str, Any]:
    """Return the DaskAutoscaler: between the tier's first workers and what the grant allows, as the scheduler asks."""
    assert launch.grant.dask is not None
    most = limits_of(launch.grant.dask).workers
    least = min(launch.grant.dask.start_workers, most)
    spec = {"cluster": cluster_name(launch), "minimum": least, "maximum": most}
    return _object("DaskAutoscaler", launch, spec)


def dask_cluster(launch: Launch, settings: OperatorSettings) -> dict[str, Any]:
    """Return the DaskCluster, with the tier's first workers."""
    grant = launch.grant.dask
    assert grant is not None
    limits = limits_of(grant)
    spec = {
        "idleTimeout": grant.idle_seconds,
        "scheduler": {"service": _service(launch), "spec": _pod(launch, settings, _scheduler(launch, settings))},
        "worker": {
            "replicas": min(grant.start_workers, limits.workers),
            "spec": _pod(launch, settings, _worker(launch, settings, limits)),
        },
    }
    return _object("DaskCluster", launch, spec)


def _object(kind: str, launch: Launch, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": cluster_name(launch), "labels": _labels(launch)}
    if kind == "DaskCluster":  # the operator copies them to each Deployment, Service and pod
        metadata["annotations"] = {SERVER_ANNOTATION: f"{launch.user}/{launch.server}"}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": metadata, "spec": spec}


def _labels(launch: Launch) -> dict[str, str]:
    return {**launch_labels(launch), "app.kubernetes.io/component": "dask"}


def _scheduler_labels(launch: Launch) -> dict[str, str]:
    return {CLUSTER_LABEL: cluster_name(launch), "dask.org/component": "scheduler"}


def _host(launch: Launch, settings: OperatorSettings) -> str:
    return f"{cluster_name(launch)}-scheduler.{settings.namespace(launch)}"


def _address(launch: Launch, settings: OperatorSettings) -> str:
    return f"tls://{_host(launch, settings)}:{_COMM_PORT}"


def _service(launch: Launch) -> dict[str, Any]:
    """Return the scheduler's Service, whose first port is not named `tcp-comm` on purpose.

    Under that name the operator would look for it when a scheduler answers its HTTP requests with errors, and speak
    Dask's own protocol with it: that unpickles, so launched code would run in the operator, which rules all pods.
    """
    ports = [("comm", _COMM_PORT, "comm"), ("http-dashboard", _DASHBOARD_PORT, "http")]
    return {
        "type": "ClusterIP",
        "selector": _scheduler_labels(launch),
        # by name, since the operator's definition of a DaskCluster takes no numbers here
        "ports": [{"name": name, "protocol": "TCP", "port": port, "targetPort": to} for name, port, to in ports],
    }


def _pod(launch: Launch, settings: OperatorSettings, container: dict[str, Any]) -> dict[str, Any]:
    # a launch with storage must not compute without it; one without has no such Secret
    secrets = [("storage", launch.grant.storage is None), (KEYS_SECRET, False)]
    container = {
        **container,
        **restricted_container(),
        "image": launch.image,
        "imagePullPolicy": settings.pull_policy,
        "envFrom": [{"secretRef": {"name": name, "optional": optional}} for name, optional in secrets],
    }
    pod = {
        **restricted_pod(),
        **settings.tiers.get(launch.grant.tier, TierPods()).spec(),
        "serviceAccountName": "default",
        "terminationGracePeriodSeconds": _TERMINATION_SECONDS,
        "containers": [container],
    }
    if settings.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.pull_secrets]
    return pod


def _scheduler(launch: Launch, settings: OperatorSettings) -> dict[str, Any]:
    options = ["--protocol", "tls", "--port", str(_COMM_PORT), "--dashboard-address", f":{_DASHBOARD_PORT}"]
    health = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 2, "timeoutSeconds": 5}
    memory = settings.scheduler_memory_bytes
    return {
        "name": "scheduler",
        # arguments, so that the image's own entry point (its `start` script) runs as it does for the server
        "args": ["python", "-m", "distributed.cli.dask_scheduler", *options],
        "env": _environment({"DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": repr(_ROUTE_MODULES)}),
        "ports": [{"name": "comm", "containerPort": _COMM_PORT}, {"name": "http", "containerPort": _DASHBOARD_PORT}],
        "readinessProbe": health,
        "resources": {
            "requests": {"cpu": _cores(settings.scheduler_cores), "memory": str(memory)},
            "limits": {"cpu": _cores(settings.scheduler_cores_limit), "memory": str(memory)},
        },
    }


def _worker(launch: Launch, settings: OperatorSettings, limits: ClusterLimits) -> dict[str, Any]:
    # the operator gives each worker its name, and deletes the Deployment with the name of a worker that was retired
    options = {
        "name": "$(DASK_WORKER_NAME)",
        "protocol": "tls",
        "nthreads": str(limits.worker_threads),
        "memory-limit": str(limits.worker_memory_bytes),
        "death-timeout": str(_WORKER_DEATH_SECONDS),
    }
    size = {"cpu": _cores(limits.worker_cores), "memory": str(limits.worker_memory_bytes)}
    return {
        "name": "worker",
        "args": ["python", "-m", "distributed.cli.dask_worker", *(f"--{name}={options[name]}" for name in options)],
        # the operator would set it too, without encryption; where it is set it stays
        "env": _environment({"DASK_SCHEDULER_ADDRESS": _address(launch, settings)}),
        "resources": {"requests": size, "limits": size},
    }


def _cores(cores: float) -> str:
    """Return cores in thousandths, rounded as those of the launch's quota are."""
    return f"{round(cores * 1000)}m"


def _environment(more: Mapping[str, str]) -> list[dict[str, str]]:
    variables = {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True", **more}
    return [{"name": name, "value": value} for name, value in variables.items()]
