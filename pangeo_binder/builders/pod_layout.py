"""Names of containers, programs and directories that the binder and a build pod share. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ENGINES: Final = ("buildah", "buildkit")
"""The engines that can make images; the operator chooses one."""

FETCH, BUILD, PUSH = CONTAINERS = ("fetch", "build", "push")
"""The names of the pod's containers and of their commands, in the order in which they run; `fetch` is rare."""

GIT_HOSTS, GIT_NETWORKS = "PANGEO_BINDER_GIT_HOSTS", "PANGEO_BINDER_GIT_NETWORKS"
"""The variables with the hosts and private networks, separated by spaces, that the checkout may contact."""

IMAGE_DIR: Final = "/image"
"""`build` writes the image here as an OCI image layout, and `push` reads it."""
BUILD_DIR: Final = "/build"
"""The home directory, the checkout and the layers of `build`; the checkout may be by `fetch`."""
CHECKOUT: Final = "checkout"
TOKEN_DIR: Final = "/git-token"  # noqa: S105 - a path, not a secret
TOKEN_FILE: Final = f"{TOKEN_DIR}/token"
"""The token of a private repository, which `fetch` alone has."""
SECRET_DIR: Final = "/push-secret"  # noqa: S105 - a path, not a secret
SECRET_FILE: Final = f"{SECRET_DIR}/.dockerconfigjson"


@dataclass(frozen=True, slots=True)
class PodPaths:
    """Directories and files that a container of the pod reads and writes."""

    image: Path = Path(IMAGE_DIR)
    build: Path = Path(BUILD_DIR)
    report: Path = Path("/dev/termination-log")
    """A failed container writes its reason here, `push` the image's digest; the default `terminationMessagePath`."""
    session: Path = Path("/opt/pangeo-binder/session")
    """The directory with the session distribution's wheel, in the image of build pods."""
