"""Test the commands of a build pod without a pod: what they refuse, and what they run."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from urllib.error import HTTPError

import pytest

from pangeo_binder.builders.kube.job import job_manifest
from pangeo_binder.builders.pod import container
from pangeo_binder.builders.pod.appendix import SESSION_DIR, appendix, install_script
from pangeo_binder.builders.pod.buildkit import BuildKitEngine
from pangeo_binder.builders.pod.engines import BuildahEngine, BuildError, LayoutEngine, _lines
from pangeo_binder.builders.pod_layout import PodPaths
from pangeo_binder.builders.session_needs import BASE, NEEDS
from pangeo_binder.errors import BuildFailed, refusal_from
from pangeo_binder.model import Repo, RepoRef
from tests.builders.registryserver import PASSWORD, USER, basic, credentials, htpasswd, run_registry
from tests.builders.test_job import SETTINGS
from tests.builders.tokenserver import token_server
from tests.repos.gitserver import LOOPBACK

TOOLS = [name for name in ("skopeo", "docker-registry") if not shutil.which(name)]
needs_tools = pytest.mark.skipif(bool(TOOLS), reason=f"LEFT OUT: no {', '.join(TOOLS)} here")


@pytest.fixture
def paths(tmp_path: Path) -> PodPaths:
    """The pod's directories, below `tmp_path`."""
    made = PodPaths(*(tmp_path / name for name in ("image", "build", "report", "session")))
    for folder in (made.image, made.build, made.session):
        folder.mkdir()
    made.report.touch()
    return made


@pytest.fixture
def layout(paths: PodPaths) -> Path:
    """An image layout that holds one image without layers."""
    image = paths.image
    config = b'{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}'
    (image / "blobs/sha256").mkdir(parents=True)

    def blob(kind: str, data: bytes) -> dict:
        digest = subprocess.run(["sha256sum"], input=data, capture_output=True, check=True).stdout[:64].decode()
        (image / "blobs/sha256" / digest).write_bytes(data)
        media = f"application/vnd.oci.image.{kind}.v1+json"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    manifest = {"schemaVersion": 2, "config": blob("config", config), "layers": []}
    index = {"schemaVersion": 2, "manifests": [blob("manifest", json.dumps(manifest).encode())]}
    (image / "index.json").write_text(json.dumps(index))
    (image / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return image


@needs_tools
def test_an_image_is_pushed_with_the_password_from_the_file(layout, paths, tmp_path, capfd):
    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry", htpasswd(tmp_path / "registry")) as server:
        file = credentials(tmp_path / "login.json", server.address)
        reference = f"{server.address}/environments:abc"
        assert container.main(["push", "--plain-http", f"--credentials={file}", "--", reference], paths) == 0
        server.headers["Authorization"] = f"Basic {basic(USER, PASSWORD)}"
        pushed = server.request("HEAD", "/v2/environments/manifests/abc").headers["Docker-Content-Digest"]
        assert paths.report.read_text() == pushed
        assert container.main(["push", "--plain-http", "--", reference], paths) == 1
    error = refusal_from(paths.report.read_text())
    assert isinstance(error, BuildFailed) and "could not be pushed" in error.message
    assert "s3cret" not in capfd.readouterr().out


@needs_tools
def test_nothing_is_pushed_to_a_registry_that_takes_images_without_the_password(layout, paths, tmp_path):
    """Steps of any build could then replace the images of others."""
    with run_registry(tmp_path / "registry") as server:
        file, reference = credentials(tmp_path / "login.json", server.address), f"{server.address}/environments:abc"
        assert container.main(["push", "--plain-http", f"--credentials={file}", "--", reference], paths) == 1
        with pytest.raises(HTTPError, match="404"):
            server.request("GET", "/v2/environments/manifests/abc")
        error = refusal_from(paths.report.read_text())
        assert container.main(["push", "--plain-http", "--", reference], paths) == 0, "the operator accepted it"
        pushed = server.request("HEAD", "/v2/environments/manifests/abc").headers["Docker-Content-Digest"]
        assert paths.report.read_text() == pushed
    assert isinstance(error, BuildFailed) and "takes images without a password" in error.message


@needs_tools
def test_nothing_is_pushed_to_a_registry_that_gives_everyone_a_token_to_push(layout, paths, tmp_path):
    with token_server(tmp_path) as tokens, run_registry(tmp_path / "registry", tokens.auth) as server:
        file = credentials(tmp_path / "login.json", server.address)
        push = ["push", "--plain-http", f"--credentials={file}", "--", f"{server.address}/environments:abc"]
        assert container.main(push, paths) == 0
        tokens.for_everyone = True
        assert container.main(push, paths) == 1
    assert "takes images without a password" in paths.report.read_text()


@pytest.mark.parametrize("where", ["index.json", "blobs/sha256/x", "link"])
def test_push_does_not_follow_links_in_the_image(layout, paths, tmp_path, where):
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    (layout / where).unlink(missing_ok=True)
    (layout / where).symlink_to(secret)
    assert container.main(["push", "--plain-http", "--", "127.0.0.1:1/x:y"], paths) == 1
    assert "not a valid image" in paths.report.read_text()


def test_push_does_not_read_a_pipe_in_the_image(layout, paths):
    os.mkfifo(layout / "blobs/sha256/pipe")
    assert container.main(["push", "--", "127.0.0.1:1/x:y"], paths) == 1
    assert "not a valid image" in paths.report.read_text()


@pytest.mark.parametrize("url", ["--upload-pack=touch x", "-x"])
def test_build_refuses_a_url_that_looks_like_an_option(paths, url):
    assert container.main(["build", "--ref=main", "--", url, "a" * 40], paths) == 1
    assert "valid repository URL and commit" in paths.report.read_text()


def test_build_refuses_an_invalid_commit(paths):
    assert container.main(["build", "--ref=main", "--", "https://example.org/x", "HEAD"], paths) == 1


@pytest.mark.parametrize(
    ("files_url", "revision"),
    [("--files", "1"), ("file:///etc/passwd", "1"), ("https://a.example/1", "-1"), ("https://a.example/1", "a\nb")],
)
def test_build_refuses_an_invalid_archive(paths, files_url, revision):
    given = [
        "--ref=",
        "--provider=zenodo",
        f"--files-url={files_url}",
        "--",
        "https://zenodo.example/records/1",
        revision,
    ]
    assert container.main(["build", *given], paths) == 1
    assert "did not get a valid repository URL and commit" in paths.report.read_text()


def test_build_reports_a_failed_fetch(paths, git_server, monkeypatch):
    for name in ("HOME", "TMPDIR", "XDG_RUNTIME_DIR"):  # a build sets these; let monkeypatch restore them
        monkeypatch.setenv(name, os.environ.get(name, ""))
    assert container.main(["build", "--ref=main", "--", f"{git_server}/private/x", "a" * 40], paths) == 1
    refused = refusal_from(paths.report.read_text())
    assert refused.reason == "host_unavailable" and "cannot be reached" in refused.message  # it is not a public address


async def test_fetch_checks_out_the_commit(paths, tmp_path, git_server, repo_of, monkeypatch):
    repo = repo_of({"README.md": "Sea"})
    job = job_manifest("sea", repo, dataclasses.replace(SETTINGS, git=LOOPBACK))
    for variable in job["spec"]["template"]["spec"]["initContainers"][0]["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    ref = RepoRef("git", f"{git_server}/git/{Path(repo.ref.url).relative_to(tmp_path)}", "main")
    await container.fetch(Repo(ref, repo.revision), paths.build / "checkout")
    assert (paths.build / "checkout" / "README.md").read_text() == "Sea"


@pytest.mark.processes
def test_the_error_names_the_failed_dockerfile_step():
    code = "print('STEP 2/3: RUN false'); print('Error: building at STEP \"RUN false\": exit status 1'); exit(1)"
    with pytest.raises(BuildError, match=r"^RUN false$"):
        list(_lines([sys.executable, "-c", code]))
    code = r"""print('failed to solve: process "/bin/sh -c echo \"\\\\n\"; false" did not complete'); exit(1)"""
    with pytest.raises(BuildError, match=r'^RUN echo "\\n"; false$'):
        list(_lines([sys.executable, "-c", code]))
    assert list(_lines([sys.executable, "-c", "print('\\x1b[31mred')"])) == ["red\n"]


@pytest.mark.processes
@pytest.mark.parametrize("kind", [BuildahEngine, BuildKitEngine])
def test_engines_write_a_layout_and_never_treat_values_as_options(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    engine = kind(parent=None, layout=tmp_path / "out", session=tmp_path)
    options = {"build-arg": {"NB_USER": "jovyan"}, "label": {"a": "--b"}}
    commands = engine.commands(tmp_path, tmp_path / "Dockerfile", options)
    joined = [word for command in commands for word in command]
    assert any(f"{tmp_path}/out" in word for word in joined) and not any("docker://" in word for word in joined)
    assert any(word.endswith("=NB_USER=jovyan") or word.endswith("build-arg:NB_USER=jovyan") for word in joined)
    assert "--b" not in joined


class ListingEngine(LayoutEngine):
    """Engine that prints its build context instead of building."""

    def commands(self, context: Path, dockerfile: Path, options: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
        return [["ls", str(context)], ["cat", str(dockerfile)], ["readlink", str(context / "src" / "link")]]


@pytest.mark.processes
def test_the_context_of_repo2dockers_dockerfile_holds_the_session(paths, tmp_path):
    (paths.session / "session.whl").touch()
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "link").symlink_to("/data")
    (tmp_path / "Dockerfile").write_text("FROM base\n")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(tmp_path / "Dockerfile", "Dockerfile")
        archive.add(tmp_path / "src", "src")
    packed.seek(0)
    engine = ListingEngine(parent=None, layout=paths.image, session=paths.session)
    output = list(engine.build(fileobj=packed, custom_context=True, buildargs={}, tag="x"))
    assert output == ["Dockerfile\n", f"{SESSION_DIR}\n", "src\n", "FROM base\n", "/data\n"]


def test_the_appendix_is_one_copy_and_one_run():
    lines = appendix(1000).splitlines()
    assert lines[0] == f"COPY --chown=1000:1000 {SESSION_DIR} /tmp/{SESSION_DIR}"
    assert lines[1].startswith("RUN ") and all(line.endswith("\\") for line in lines[1:-1])
    assert all(need in appendix(1000) for need in (*NEEDS, *BASE))
    subprocess.run(["sh", "-n"], input=install_script("/nowhere"), text=True, check=True)


@pytest.mark.parametrize(("fails", "code"), [(BASE[0], 0), (NEEDS[0], 1)])
def test_only_the_packages_of_the_base_may_be_missing(tmp_path, fails, code):
    """Run the script with a stand-in for pip, which fails for one of the packages."""
    python, folder = tmp_path / "bin" / "python", tmp_path / "session"
    python.parent.mkdir()
    folder.mkdir()
    python.write_text(f"#!/bin/sh\ncase \"$*\" in *'{fails}'*) exit 1;; esac\n")
    python.chmod(0o755)
    script = " && ".join(install_script(str(folder)).strip().splitlines())
    done = subprocess.run(["sh", "-c", script], env={**os.environ, "NB_PYTHON_PREFIX": str(tmp_path)}, check=False)
    assert (done.returncode, folder.exists()) == (code, code == 1)


def test_the_appendix_pins_the_installed_versions(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    folder = tmp_path / "session"
    folder.mkdir()
    lines = install_script(str(folder)).splitlines()
    pinning = [line for line in lines if "install " not in line and "rm -r" not in line]
    environment = {**os.environ, "NB_PYTHON_PREFIX": str(tmp_path / "venv")}
    subprocess.run(["sh", "-e"], input="\n".join(pinning), text=True, check=True, env=environment)
    assert {line.split("==")[0] for line in (folder / "pins.txt").read_text().split()} >= {"pip"}
