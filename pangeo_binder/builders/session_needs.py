"""The packages that every environment gets in addition to the repository's requirements. Builders use these lists.

The lower bounds are low on purpose: the repository's pins win, and old Pythons get old versions.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

NEEDS: Final = (
    "jupyterlab>=3",  # the page a launch opens
    "jupyter-server>=1.6",  # what the session distribution extends
    "jupyter-server-proxy>=3",  # gives access to dashboards and other web pages of the session
    "dask-gateway>=2022.4",  # the client, and the preload of every scheduler
    "distributed>=2022.2",  # schedulers and workers run in this environment
    "dask-labextension>=5.2",  # the Dask panel
    "bokeh>=2.4",  # without it a scheduler has no dashboard
    "s3fs>=2022.1",  # `s3://` for scratch and catalogue
    "pip",  # `%pip install` and postBuild
)
BASE: Final = (
    "notebook>=6.5",  # the classic interface: `tree`, `notebooks/…`
    "ipywidgets>=7",
    "jupyter-resource-usage>=0.6",  # the session's memory, of its limit
    "nbgitpuller>=1",  # links with `urlpath=git-pull?…`
)
"""What notebooks and links for mybinder.org rely on; a repository whose packages do not fit gets none of it.

Mostly of repo2docker's base: https://github.com/jupyterhub/repo2docker, buildpacks/conda/environment.yml
"""


def session_needs(session_wheel: Path) -> tuple[str, ...]:
    """Return the requirements added to every environment, including the session distribution's wheel."""
    return (*NEEDS, str(session_wheel))


def session_digest(session_source: Path) -> str:
    """Return a digest of the needs and the session distribution; part of an environment's id."""
    digest = hashlib.sha256("\n".join((*NEEDS, *BASE)).encode())
    for path in sorted(session_source.rglob("*")):
        if path.suffix in (".py", ".json", ".toml") and "dist" not in path.relative_to(session_source).parts:
            digest.update(str(path.relative_to(session_source)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
