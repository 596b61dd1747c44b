"""Container images for the test cluster, built here: from Debian's packages, the package indexes and this checkout.

No registry is asked for anything. Images are kept as archives in the cache, under a name made from all that goes into
them. Not for what images hold: that is in `images/`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .node_objects import DNS_IMAGE, PAUSE_IMAGE
from .tools import ClusterTools, cache_dir


def _buildah(*arguments: str) -> str:
    storage = cache_dir() / "buildah"
    command = ["buildah", f"--root={storage}/root", f"--runroot={storage}/run", *arguments]
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout.strip()


def system_archives(tools: ClusterTools) -> tuple[Path, ...]:
    """Return archives of the images that hold one program of the cluster's own each: pause and CoreDNS."""
    return tuple(
        _one_program(program, name) for program, name in ((tools.pause, PAUSE_IMAGE), (tools.coredns, DNS_IMAGE))
    )


def _one_program(program: Path, name: str) -> Path:
    target = cache_dir() / "images" / f"{program.name}-{program.parent.name}.tar"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(
            f'FROM scratch\nCOPY {program.name} /{program.name}\nENTRYPOINT ["/{program.name}"]\n'
        )
        shutil.copy(program, folder)
        _buildah("bud", "--tag", name, folder)
    _save(name, target)
    return target


def _save(name: str, target: Path) -> None:
    """Write an image into an archive, which is there whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.with_name(f".{target.name}.{os.getpid()}")
    _buildah("push", name, f"docker-archive:{made}:{name}")
    made.rename(target)
