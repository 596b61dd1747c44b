"""Reads what the chart passes to the processes: its values, the names of its objects, and each process's secrets.

`helm-chart/pangeo-binder/templates/_values.tpl` writes the document; unknown keys are refused. Secrets are files of
the one Secret that a process mounts. Not for the local profile's values.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from ...hosts import HOSTS
from ...hub.roles import GATEWAY
from ...kube.pods import TierPods

_ETC = Path(os.environ.get("PANGEO_BINDER_ETC", "/etc/pangeo-binder"))
"""The directory of a pod's mounted files; the variable overrides it for a process outside its pod."""
CONFIG, SECRETS = _ETC / "config", _ETC / "secrets"
REGISTRY_LOGIN = _ETC / "registry" / "config.json"
GITHUB_TOKEN = _ETC / "github" / "token"
PRIVATE = _ETC / "private"
"""Has a folder with a token for each of `binder.repositories.private`, by its number."""
PULL_LOGIN = _ETC / "pull" / ".dockerconfigjson"
STATE = Path("/var/lib/pangeo-binder")
VALUES_VARIABLE = "PANGEO_BINDER_VALUES"
"""Holds the document itself where no file can be mounted, as in dask-gateway's chart."""
HUB_PORT, SERVER_PORT, BINDER_PORT = 8081, 8888, 8585
STORAGE_PORT, STORAGE_ADMIN_PORT, GATEWAY_API_PORT = 9100, 9101, 8000

_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def size_bytes(text: str) -> int:
    """Return the bytes of a size such as `6Gi`, in the form of the chart's schema."""
    return int(float(text[:-2]) * _UNITS[text[-2:]])


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class PriorityClasses(_Part):
    """Names of PriorityClasses; empty for the cluster's default."""

    servers: str = ""
    dask: str = ""
    builds: str = ""


class LaunchRole(_Part):
    """A ClusterRole that a service account of the release has in the launches' namespaces."""

    role: str
    account: str


class KubeSettings(_Part):
    """The names of the release's objects in the cluster."""

    release: str
    namespace: str
    tiers: tuple[str, ...]
    """The names of the policy's tiers."""
    shared_namespace: str = ""
    """The one namespace of all launches; empty if each has its own."""
    gateway_instance: str
    gateway_api: str
    gateway_traefik: str
    gateway_prefix: str
    gateway_middleware: str
    """The name of the traefik middleware that strips the prefix from clusters' addresses."""
    traefik_port: int = 80
    launch_roles: tuple[LaunchRole, ...] = ()
    builds_namespace: str
    git_networks: tuple[str, ...] = ()
    """The private networks of git servers that links may name."""
    priority_classes: PriorityClasses = PriorityClasses()
    builder_image: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[Mapping[str, str], ...] = ()


class ExampleValues(_Part):
    """An example repository on the landing page."""

    title: str
    url: str
    description: str = ""
    ref: str = "HEAD"
    urlpath: str = ""


class PrivateValues(_Part):
    """Private repositories that are read with a token."""

    pattern: str
    secret: str
    """The Secret with the key `token`, in the release's namespace and in that of the builds."""


class RepositoryValues(_Part):
    """`binder.repositories`."""

    github: str = HOSTS["gh"].url
    gist: str = HOSTS["gist"].url
    secret_gists: bool = False
    github_api: str = "https://api.github.com"
    github_token_secret: str = ""
    private: tuple[PrivateValues, ...] = ()
    gitlab: str = HOSTS["gl"].url
    internal_hosts: tuple[str, ...] = ()
    software_heritage: str = "https://archive.softwareheritage.org"
    doi_resolver: str = "https://doi.org"
    zenodo: str = "https://zenodo.org"
    figshare: str = "https://figshare.com"
    figshare_api: str = "https://api.figshare.com/v2"
    dataverse: tuple[str, ...] = ("*",)
    hydroshare: str = "https://www.hydroshare.org"
    ckan: bool = True
    ckan_private: tuple[str, ...] = ()


class BinderValues(_Part):
    """`binder`."""

    hosts: tuple[str, ...] = Field(min_length=1)
    https: bool = True
    subdomains: bool = True
    """Whether each session has a host name of its own, below the first host."""
    queue_seconds: int = 600
    api_only: bool = False
    require_build_token: bool = False
    build_token_seconds: int = 1800
    rate_limit: int = 60
    rate_seconds: int = 3600
    banned_networks: tuple[str, ...] = ()
    cors_allow_origin: str = ""
    repositories: RepositoryValues = RepositoryValues()
    auth: Literal["none", "offered", "required"] = "none"
    """Whether people can sign in, or have to."""
    notice: str = ""
    about: tuple[str, ...] = ()
    examples: tuple[ExampleValues, ...] = ()

    @model_validator(mode="after")
    def _check_logins(self) -> BinderValues:
        # on one origin, every session's code would act as the person at binder and hub
        if self.auth != "none" and not self.subdomains:
            raise ValueError("`binder.auth` needs `binder.subdomains`: sessions must not have the binder's origin.")
        return self


class Pool(_Part):
    """Settings that select the nodes for pods."""

    node_selector: Mapping[str, str] = {}
    tolerations: tuple[Mapping[str, Any], ...] = ()

    def pods(self, priority_class: str) -> TierPods:
        """Return it in the form that launches and builds use."""
        return TierPods(self.node_selector, self.tolerations, priority_class)


class TierPool(Pool):
    """Settings that select the nodes and the priority of one tier's pods."""

    priority_class: str = ""
    """The operator's own PriorityClass; empty for the chart's."""


class BuildValues(Pool):
    """`builds`."""

    engine: Literal["buildah", "buildkit"] = "buildah"
    base_image: str = ""
    seccomp_profile: str = ""
    apparmor_profile: str = ""
    host_users: bool = True
    runtime_class_name: str = ""
    seconds: int = 1800
    concurrent: int = 4
    per_network: int = 2
    per_repository: int = 2
    waiting: int = 100
    grace_seconds: int = 60
    cpu: float = 2
    memory: str = "6Gi"
    disk: str = "20Gi"


class RegistryValues(_Part):
    """`registry`."""

    address: str = Field(min_length=1)
    name: str = "environments"
    push_address: str = ""
    ask_address: str = ""
    plain_http: bool = False
    read_secret: str = ""
    push_secret: str = ""
    networks: tuple[str, ...] = ()


class LaunchValues(_Part):
    """`launches`."""

    prefix: str = "launch"
    pull_login: bool = False
    start_seconds: int = 600
    pools: Mapping[str, TierPool] = {}
    blocked_networks: tuple[str, ...] = ()
    internet: bool = True
    internet_ports: tuple[int, ...] = ()
    dns_networks: tuple[str, ...] = ()


class SchedulerValues(_Part):
    """`dask.scheduler`."""

    cpu: float = 0.25
    """The CPU request in cores."""
    memory: str = "1Gi"

    @property
    def cpu_limit(self) -> float:
        """The CPU limit in cores; above the request, because a scheduler is idle most of the time."""
        return max(1.0, self.cpu)

    @property
    def memory_bytes(self) -> int:
        """The memory in bytes."""
        return size_bytes(self.memory)


class DaskValues(_Part):
    """`dask`."""

    backend: Literal["gateway", "operator"] = "gateway"
    scheduler: SchedulerValues = SchedulerValues()
    start_seconds: int = 180


class KubeValues(_Part):
    """One release of the chart."""

    site: KubeSettings
    binder: BinderValues
    builds: BuildValues = BuildValues()
    registry: RegistryValues
    launches: LaunchValues = LaunchValues()
    dask: DaskValues = DaskValues()
    log_level: str = "INFO"
    log_format: Literal["text", "json"] = "text"

    def address(self, service: str, port: int) -> str:
        """Return the URL of the release's `service`, valid anywhere in the cluster."""
        return f"http://{service}.{self.site.namespace}.svc:{port}"

    @property
    def public_url(self) -> str:
        """The public address; ends in a slash."""
        return f"http{'s' if self.binder.https else ''}://{self.binder.hosts[0]}/"

    @property
    def session_domain(self) -> str:
        """The host below which each session has its own; empty if they all share the binder's."""
        return self.binder.hosts[0] if self.binder.subdomains else ""

    @property
    def gateway_public_address(self) -> str:
        """Where browsers find dask-gateway's dashboards; a path if they are at the sessions' own host."""
        if not self.session_domain:
            return self.site.gateway_prefix
        host = f"{GATEWAY}--service.{self.session_domain}"  # JupyterHub's name for a service's own host
        return f"http{'s' if self.binder.https else ''}://{host}{self.site.gateway_prefix}"

    @property
    def hub_url(self) -> str:
        """The hub, without the proxy."""
        return self.address("hub", HUB_PORT)

    @property
    def storage_admin_url(self) -> str:
        """The credentials API."""
        return self.address("storage-admin", STORAGE_ADMIN_PORT)

    @property
    def gateway_api_url(self) -> str:
        """dask-gateway's API server itself; paths begin with `/api`."""
        return self.address(self.site.gateway_api, GATEWAY_API_PORT)

    @property
    def gateway_url(self) -> str:
        """dask-gateway as clients reach it, dashboards included."""
        return f"{self.address(self.site.gateway_traefik, self.site.traefik_port)}{self.site.gateway_prefix}"

    def tier_pods(self, priority_class: str) -> dict[str, TierPods]:
        """Return the pod settings of each tier of the policy, with its PriorityClass or else `priority_class`."""
        pools = {tier: self.launches.pools.get(tier, TierPool()) for tier in self.site.tiers}
        return {tier: pool.pods(pool.priority_class or priority_class) for tier, pool in pools.items()}


def read_values(folder: Path = CONFIG) -> KubeValues:
    """Return the release's values, from the variable if it is set, else from the file in `folder`.

    Raises pydantic.ValidationError, FileNotFoundError.
    """
    text = os.environ.get(VALUES_VARIABLE) or (folder / "values.yaml").read_text()
    return KubeValues.model_validate(yaml.safe_load(text))


def read_secret(key: str, folder: Path = SECRETS) -> str:
    """Return the value of `key` in this process's Secret. Raises FileNotFoundError if the key is missing."""
    return (folder / key).read_text().strip()
