"""The objects of a launch's Dask cluster for the dask-kubernetes operator: DaskCluster, autoscaler, Secret. Pure.

They contain all limits of a cluster, because a session has no access to any of them. Facts about the operator are those
of dask-kubernetes 2026.3 (https://kubernetes.dask.org/en/latest/operator.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from .... import names
from ....dask_start import scheduler_command, worker_command
from ....kube.labels import COMPONENT_LABEL, launch_labels, server_annotation
from ....kube.placement import Placement
from ....kube.pods import restricted_container, restricted_pod
from ....limits import GIB, ClusterLimits, cluster_limits
from ....model import DaskGrant, Launch

GROUP, VERSION = "kubernetes.dask.org", "v1"
CLUSTERS, AUTOSCALERS = "daskclusters", "daskautoscalers"
"""The resources of `GROUP` that the hub makes."""
CLUSTER_LABEL = "dask.org/cluster-name"
"""The operator's own label on each Deployment and pod of a cluster."""
KEYS_SECRET = "dask-keys"  # noqa: S105 - the Secret's name
OPERATOR_POLICY = "dask-operator"
_COMM_PORT, _DASHBOARD_PORT = 8786, 8787
_WORKER_DEATH_SECONDS = 60
_TERMINATION_SECONDS = 10
"""How long pods may take to end: they have nothing to save, and the next pods need their quota."""

# the operator asks the scheduler over HTTP how many workers it wants; a scheduler does not have this route by default
_ROUTES = ("api", "prometheus", "info", "json")
_ROUTE_MODULES = [*(f"distributed.http.scheduler.{name}" for name in _ROUTES)]
_ROUTE_MODULES += ["distributed.http.health", "distributed.http.proxy", "distributed.http.statics"]


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """A deployment's settings for the clusters of its launches."""

    placement: Placement = field(default_factory=Placement)
    """Where the objects of launches are, with the nodes of schedulers and workers; not in a shared namespace."""
    scheduler_cores: float = 0.25
    """What a scheduler requests."""
    scheduler_cores_limit: float = 1
    scheduler_memory_bytes: int = GIB
    pull_policy: str = "IfNotPresent"
    pull_login: bool = False
    """Whether each launch has a Secret with which its image is pulled."""
    operator_namespace: str = "dask-operator"
    """The operator's namespace: the one in which its documentation installs it."""
    operator_labels: Mapping[str, str] = field(
        default_factory=lambda: {"app.kubernetes.io/name": "dask-kubernetes-operator"}
    )
    """The labels of its pods, as its chart sets them."""
    start_seconds: float = 180
    """How long a scheduler may take until it is ready."""

    def __post_init__(self) -> None:
        """Refuse a shared namespace. Raises ValueError.

        The operator deletes the Deployments that a scheduler names, and a scheduler runs launched code: in a shared
        namespace launches could end each other's workers.
        """
        if self.placement.shared:
            raise ValueError("Clusters of the Dask operator need a namespace for each launch.")


def cluster_name(launch: Launch) -> str:
    """Return the name of the launch's one cluster, 17 characters of the operator's 53."""
    return f"dask-{launch.id}"


def limits_of(grant: DaskGrant) -> ClusterLimits:
    """Return the limits of the launch's one cluster: there is no second one, so it may use the whole grant."""
    return cluster_limits(replace(grant, clusters=1), grant.worker_cores, grant.worker_memory_bytes)


def session_variables(launch: Launch, settings: OperatorSettings, keys: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables with which a session reaches its cluster by a plain `Client()`; `keys` are secret."""
    assert launch.grant.dask is not None
    addresses = {
        "DASK_SCHEDULER_ADDRESS": _address(launch, settings),
        "PANGEO_BINDER_DASHBOARD": f"http://{_host(launch, settings)}:{_DASHBOARD_PORT}",
        "PANGEO_BINDER_MOST_WORKERS": str(limits_of(launch.grant.dask).workers),
    }
    return MappingProxyType({**addresses, **keys})


def keys_secret(launch: Launch, keys: Mapping[str, str]) -> dict[str, Any]:
    """Return the Secret with the keys of the cluster's encryption, as variables of its pods."""
    return {"metadata": {"name": KEYS_SECRET, "labels": _labels(launch)}, "stringData": dict(keys)}


def operator_policy(launch: Launch, settings: OperatorSettings) -> dict[str, Any]:
    """Return the NetworkPolicy by which the operator and the launch's own pods reach the scheduler.

    The launch's pods are in it too: if it is the only policy, it would keep them out.
    """
    own = {"podSelector": {"matchLabels": {names.LAUNCH_LABEL: launch.id}}}
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.operator_namespace}},
        "podSelector": {"matchLabels": dict(settings.operator_labels)},
    }
    spec = {
        "podSelector": {"matchLabels": _scheduler_labels(launch)},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [own]}, {"from": [operator], "ports": [{"port": _DASHBOARD_PORT, "protocol": "TCP"}]}],
    }
    return {"metadata": {"name": OPERATOR_POLICY, "labels": _labels(launch)}, "spec": spec}


def dask_autoscaler(launch: Launch) -> dict[str, Any]:
    """Return the DaskAutoscaler: from the tier's first workers to the most the grant allows, as the scheduler asks."""
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
        metadata["annotations"] = server_annotation(launch)
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": metadata, "spec": spec}


def _labels(launch: Launch) -> dict[str, str]:
    return {**launch_labels(launch), COMPONENT_LABEL: "dask"}


def _scheduler_labels(launch: Launch) -> dict[str, str]:
    return {CLUSTER_LABEL: cluster_name(launch), "dask.org/component": "scheduler"}


def _host(launch: Launch, settings: OperatorSettings) -> str:
    return f"{cluster_name(launch)}-scheduler.{settings.placement.namespace(launch)}"


def _address(launch: Launch, settings: OperatorSettings) -> str:
    return f"tls://{_host(launch, settings)}:{_COMM_PORT}"


def _service(launch: Launch) -> dict[str, Any]:
    """Return the scheduler's Service, whose first port must not be named `tcp-comm`.

    The operator looks for a port of this name when a scheduler answers its HTTP requests with errors, and speaks Dask's
    own protocol there. That protocol unpickles, so launched code would run in the operator, which controls all pods.
    """
    ports = [("comm", _COMM_PORT, "comm"), ("http-dashboard", _DASHBOARD_PORT, "http")]
    return {
        "type": "ClusterIP",
        "selector": _scheduler_labels(launch),
        # by name: the operator's DaskCluster definition accepts no numbers here
        "ports": [{"name": name, "protocol": "TCP", "port": port, "targetPort": to} for name, port, to in ports],
    }


def _pod(launch: Launch, settings: OperatorSettings, container: dict[str, Any]) -> dict[str, Any]:
    # a launch with storage must not compute without it; a launch without storage has no such Secret
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
        **settings.placement.pods(launch).spec(),
        "serviceAccountName": "default",
        "terminationGracePeriodSeconds": _TERMINATION_SECONDS,
        "containers": [container],
    }
    if settings.pull_login:
        pod["imagePullSecrets"] = [{"name": settings.placement.secret("pull", launch)}]
    return pod


def _scheduler(launch: Launch, settings: OperatorSettings) -> dict[str, Any]:
    options = ["--protocol", "tls", "--port", str(_COMM_PORT), "--dashboard-address", f":{_DASHBOARD_PORT}"]
    health = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 2, "timeoutSeconds": 5}
    memory = settings.scheduler_memory_bytes
    return {
        "name": "scheduler",
        # arguments, so that the image's own entry point (its `start` script) runs, as for the server
        "args": [*scheduler_command("python"), *options],
        "env": _environment({"DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": repr(_ROUTE_MODULES)}),
        "ports": [{"name": "comm", "containerPort": _COMM_PORT}, {"name": "http", "containerPort": _DASHBOARD_PORT}],
        "readinessProbe": health,
        "resources": {
            "requests": {"cpu": _cores(settings.scheduler_cores), "memory": str(memory)},
            "limits": {"cpu": _cores(settings.scheduler_cores_limit), "memory": str(memory)},
        },
    }


def _worker(launch: Launch, settings: OperatorSettings, limits: ClusterLimits) -> dict[str, Any]:
    # the operator names each worker, and deletes the Deployment with the name of a retired worker
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
        "args": [*worker_command("python"), *(f"--{name}={options[name]}" for name in options)],
        # the operator would set it without encryption; it keeps a value that is set
        "env": _environment({"DASK_SCHEDULER_ADDRESS": _address(launch, settings)}),
        "resources": {"requests": size, "limits": size},
    }


def _cores(cores: float) -> str:
    """Return cores in thousandths, rounded like those of the launch's quota."""
    return f"{round(cores * 1000)}m"


def _environment(more: Mapping[str, str]) -> list[dict[str, str]]:
    variables = {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True", **more}
    return [{"name": name, "value": value} for name, value in variables.items()]
