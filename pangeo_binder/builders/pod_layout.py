"""Names of containers, programs and directories that the binder and a build pod share. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ENGINES: Final = ("buildah", "buildkit")
"""The engines that can make images; the operator chooses one."""

BUILD, PUSH = "build", "push"
"""The names of the pod's two containers and of their commands, in the order in which they run."""

GIT_HOSTS, GIT_NETWORKS = "PANGEO_BINDER_GIT_HOSTS", "PANGEO_BINDER_GIT_NETWORKS"
"""The variables with the hosts and private networks, separated by spaces, that the checkout may contact."""

IMAGE_DIR: Final = "/image"
"""`build` writes the image here as an OCI image layout, and `push` reads it."""
BUILD_DIR: Final = "/build"
"""The home directory, the checkout and the layers of `build`."""
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
