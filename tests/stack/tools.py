"""Installs the parts of a one-node Kubernetes cluster into a cache directory: `make cluster-tools`.

Builds Go programs from published modules. The rest comes from Debian packages (containerd, runc, CNI plugins,
docker-registry, buildah), which are installed if the user is root. The cache holds each program under its own version,
so none is built twice. The fixtures of `tests/kube` and `tests/chart` use it and name the missing parts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

HERE = Path(__file__).parent
INSTALL_COMMAND = "make cluster-tools"

DEBIAN = {
    "containerd": "containerd",
    "runc": "runc",
    "docker-registry": "docker-registry",
    "buildah": "buildah",
    "skopeo": "skopeo",
    "mmdebstrap": "mmdebstrap",
    "iptables": "iptables",
    "ipset": "ipset",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
"""Programs from Debian, with their packages."""


@dataclass(frozen=True)
class GoTool:
    """Programs of one published Go module."""

    module: str
    version: str
    programs: tuple[tuple[str, str], ...]
    """The binaries' names, with their packages in the module."""
    staged: str = ""
    """The version of the modules that this one takes from its own repository (`staging`)."""
    summed: bool = True
    """Whether the public checksum database knows the module."""


KUBERNETES = "1.34.4"
"""The last minor version that supports cgroup v1 and containerd 1.6 (Debian 12) without extra settings."""

GO_TOOLS = (
    GoTool(
        "k8s.io/kubernetes",
        f"v{KUBERNETES}",
        tuple(
            (name, f"cmd/{name}")
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kube-proxy",
                "kubectl",
            )
        ),
        staged=f"v0.{KUBERNETES.split('.', 1)[1]}",
    ),
    GoTool("go.etcd.io/etcd/server/v3", "v3.6.16", (("etcd", ""),)),
    GoTool("helm.sh/helm/v3", "v3.19.5", (("helm", "cmd/helm"),)),
    GoTool("sigs.k8s.io/kwok", "v0.7.0", (("kwok", "cmd/kwok"),)),
    GoTool("github.com/cloudnativelabs/kube-router/v2", "v2.1.0", (("kube-router", "cmd/kube-router"),), summed=False),
    GoTool("github.com/coredns/coredns", "v1.14.7", (("coredns", "."),)),
    GoTool("github.com/moby/buildkit", "v0.34.2", (("buildctl", "cmd/buildctl"), ("buildkitd", "cmd/buildkitd"))),
)


class ToolsMissing(Exception):
    """Parts of a cluster are missing; the message names them and the command that installs them."""


def cache_dir() -> Path:
    """Return the directory of tools and images, outside any checkout, so that a new clone reuses them."""
    base = os.environ.get("PANGEO_BINDER_CLUSTER_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pangeo-binder" / "cluster"


@dataclass(frozen=True)
class ClusterTools:
    """Where the programs are."""

    bin: Path

    def __getattr__(self, name: str) -> Path:
        """Return a Go program by its name with underscores: `tools.kube_apiserver`."""
        path = self.bin / name.replace("_", "-")
        if name.startswith("_") or not path.exists():
            raise AttributeError(name)
        return path

    @cached_property
    def pause(self) -> Path:
        """The program of pod sandboxes."""
        return self.bin / "pause"


def missing() -> list[str]:
    """Return the names of the missing programs."""
    programs = [name for tool in GO_TOOLS for name, _ in tool.programs] + ["pause"]
    return [name for name in programs if not (_bin() / name).exists()] + [
        program for program in DEBIAN if not shutil.which(program, path=_path()) and not Path(program).exists()
    ]


def tools() -> ClusterTools:
    """Return the tools. Raises ToolsMissing."""
    if absent := missing():
        raise ToolsMissing(f"{', '.join(absent)} not found: run `{INSTALL_COMMAND}`")
    return ClusterTools(_bin())


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _bin() -> Path:
    """Return the directory with links to all Go programs; its name depends on all their versions."""
    text = repr(GO_TOOLS) + _VERSIONED + "".join(path.read_text() for path in sorted(HERE.glob("*/main.go")))
    return cache_dir() / f"tools-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _cached(name: str, tool: GoTool | None) -> Path:
    """Return the cache path of the program `name` of `tool`, or of our own program if `tool` is None."""
    own = HERE / name / "main.go"
    text = f"{tool.module} {tool.version} {_VERSIONED if tool.staged else ''}" if tool else ""
    text += own.read_text() if own.exists() else ""
    return cache_dir() / "programs" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _go_environment(folder: Path) -> dict[str, str]:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false -trimpath", "GOWORK": "off"}
    environment["GONOSUMDB"] = ",".join(tool.module for tool in GO_TOOLS if not tool.summed)
    environment["PWD"] = str(folder)
    return environment


def _module_file(tool: GoTool, folder: Path) -> str:
    """Return a module file that builds `tool`: its own, without the replacements by modules of its repository.

    `go install` refuses modules with replacements, and a published module does not contain its neighbours.
    """
    command = ["go", "mod", "download", "-json", f"{tool.module}@{tool.version}"]
    found = subprocess.run(command, cwd=folder, env=_go_environment(folder), check=True, capture_output=True, text=True)
    text = Path(json.loads(found.stdout)["GoMod"]).read_text()
    staged = re.findall(r"^\s+(\S+) => \./staging", text, re.MULTILINE)
    text = re.sub(r"^replace \(.*?^\)", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^module .*", "module cluster-tools", text, flags=re.MULTILINE)
    for module in staged:
        text = re.sub(rf"^(\s+{re.escape(module)}) v0\.0\.0$", rf"\1 {tool.staged}", text, flags=re.MULTILINE)
    replaced = "".join(f"replace {module} => {module} {tool.staged}\n" for module in staged)
    return f"{text}\nrequire {tool.module} {tool.version}\n{replaced}"


def _build(tool: GoTool) -> None:
    wanted = [(name, package) for name, package in tool.programs if not _cached(name, tool).exists()]
    if not wanted:
        return
    print(f"Building {', '.join(name for name, _ in wanted)} ({tool.module} {tool.version}) …", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "go.mod").write_text("module cluster-tools\n\ngo 1.24.0\n")
        (here / "go.mod").write_text(_module_file(tool, here))
        for name, package in wanted:
            source = HERE / name / "main.go"
            if source.exists():
                shutil.copy(source, here)
            whole = "." if source.exists() else f"{tool.module}/{package}".rstrip("/")
            _compile(here, _cached(name, tool), whole, _VERSIONED if tool.staged else "")


_VERSIONED = "".join(
    f" -X {package}.gitVersion=v{KUBERNETES}"
    f" -X {package}.gitMajor={KUBERNETES.split('.')[0]} -X {package}.gitMinor={KUBERNETES.split('.')[1]}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
)
"""Sets the version as Kubernetes' own build does; without it, clients and charts cannot read the version."""


def _compile(folder: Path, target: Path, package: str, flags: str = "") -> None:
    """Build `package` into `target` atomically."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    command = ["go", "build", "-ldflags", f"-s -w{flags}", "-o", str(partial), package]
    subprocess.run(command, cwd=folder, env=_go_environment(folder), check=True)
    partial.rename(target)


def _link(cached: Path, name: str) -> None:
    """Link a cached program into the directory of all programs; a hard link survives the removal of the other."""
    if not (_bin() / name).exists():
        (_bin() / name).hardlink_to(cached)


def _install_packages() -> None:
    absent = {DEBIAN[name] for name in missing() if name in DEBIAN}
    if not absent:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *sorted(absent)]
    if os.geteuid() != 0:
        raise ToolsMissing(f"As root, run: {' '.join(command)}")
    print(f"Installing {', '.join(sorted(absent))} …", flush=True)
    # the packages must not start services: the tests start their own, with their own directories
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "update"], env=environment, check=False, capture_output=True)
    subprocess.run(command, env=environment, check=True, capture_output=True)


def install() -> None:
    """Build and install what is missing."""
    _install_packages()
    if shutil.which("go") is None:
        raise ToolsMissing("Go is not on this machine; install Go 1.24 or newer, then run this again.")
    for folder in (_bin(), cache_dir() / "programs"):
        folder.mkdir(parents=True, exist_ok=True)
    for tool in GO_TOOLS:
        _build(tool)
        for name, _ in tool.programs:
            _link(_cached(name, tool), name)
    if not (cached := _cached("pause", None)).exists():
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(HERE / "pause" / "main.go", folder)
            (Path(folder) / "go.mod").write_text("module pause\n\ngo 1.24.0\n")
            _compile(Path(folder), cached, ".")
    _link(cached, "pause")
    print(f"All parts of a one-node cluster are in {_bin()}")


if __name__ == "__main__":
    try:
        install()
    except (ToolsMissing, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
