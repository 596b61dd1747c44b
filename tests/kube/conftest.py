"""Tests on real Kubernetes components."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.repos.gitrepo import git, make_repository
from tests.repos.gitserver import GitHandler
from tests.stack.kube_fixtures import (
    cluster,
    cluster_tools,
    control_plane,
    installed,
    installed_apart,
    installed_operated,
    installed_shared,
    notebook,
)
from tests.stack.node import Cluster

__all__ = [
    "cluster",
    "cluster_tools",
    "control_plane",
    "installed",
    "installed_apart",
    "installed_operated",
    "installed_shared",
    "notebook",
    "repository",
]


@pytest.fixture(scope="session")
def repository(cluster: Cluster, notebook: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address, which pods reach, of a repository with a Dockerfile that starts from the notebook image."""
    folder = tmp_path_factory.mktemp("repositories")
    docker = f"FROM {notebook}\nRUN echo sea > /home/jovyan/made\nCOPY --chown=1000:1000 . /home/jovyan/\n"
    files = {"binder/Dockerfile": docker, "binder/pangeo.yaml": "server: {cpu: 0.2}\n", "answer.txt": "42\n"}
    make_repository(folder / "sea", files)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GIT_PROJECT_ROOT", str(folder))
        patched.setenv("GIT_HTTP_EXPORT_ALL", "1")
        server = ThreadingHTTPServer((cluster.host, 0), GitHandler)
        server.backend = str(Path(git("--exec-path", cwd=folder)) / "git-http-backend")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{cluster.host}:{server.server_port}/git/sea"
        server.shutdown()
        thread.join()
        server.server_close()
