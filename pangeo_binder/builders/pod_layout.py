"""What the binder and a build pod agree on: names of containers, programs and directories. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ENGINES: Final = ("buildah", "buildkit")
"""What makes images, by the operator's choice."""

BUILD, PUSH = "build", "push"
"""The names of the pod's two containers, and of the commands they run, in their order."""

IMAGE_DIR: Final = "/image"
"""Where `build` leaves the image and `push` takes it from, as an OCI image layout."""
BUILD_DIR: Final = "/build"
"""Where `build` has its home, the checkout and the layers."""
SECRET_DIR: Final = "/push-secret"  # noqa: S105 - a place, not a secret
SECRET_FILE: Final = f"{SECRET_DIR}/.dockerconfigjson"


@dataclass(frozen=True, slots=True)
class Places:
    """Where a container of the pod finds and leaves things."""

    image: Path = Path(IMAGE_DIR)
    build: Path = Path(BUILD_DIR)
    report: Path = Path("/dev/termination-log")
    """Where a container says in a sentence why it failed; Kubernetes' own default place for that."""
    session: Path = Path("/opt/pangeo-binder/session")
    """Where the image of build pods keeps the session distribution's wheel."""
