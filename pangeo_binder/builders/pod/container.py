"""The commands of a build pod: `build` makes an image of a commit with repo2docker; `push` pushes it to a registry.

`build` runs the repository's code and has no secret. `push` runs none of that code and reads the registry's password
from a file. For a private repository, `fetch` comes first and reads its token from a file; it runs none of that code
either. Each writes the reason for a failure to the container's termination log; `push` writes the digest of the
image there if it succeeds. Runs in build pods.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from email.message import Message
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from ...addresses import make_rules
from ...errors import BuildFailed, UserError, refusal_text
from ...git import GitAccess
from ...git_token import is_confidential
from ...kube.pods import USER_ID
from ...model import FetchKind, Repo, RepoRef
from ...public_hosts import web_parts
from ..checkout import check_out
from ..image_labels import labels_of
from ..pod_layout import BUILD, CHECKOUT, FETCH, GIT_HOSTS, GIT_NETWORKS, PUSH, PodPaths
from .appendix import appendix

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # repo2docker's own imports
    from repo2docker.app import Repo2Docker

    from .buildkit import BuildKitEngine
    from .engines import BuildahEngine, BuildError, LayoutEngine

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_RECORD = re.compile(r"(?!-)[\w.:;=/+~-]{1,500}", re.ASCII)
_FETCH_SECONDS = 24 * 3600  # the pod's own deadline is the effective limit
_REPORT_CHARACTERS = 2000
_PROBE_SECONDS = 15
_PROBE_BYTES = 1 << 16
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Image(Repo2Docker):
    """repo2docker with an engine that writes an image layout."""

    paths: PodPaths

    def get_engine(self) -> LayoutEngine:
        """Return the engine that the operator chose."""
        kind = BuildKitEngine if os.environ.get("PANGEO_BINDER_ENGINE") == "buildkit" else BuildahEngine
        return kind(parent=self, layout=self.paths.image, session=self.paths.session)


def build(repo: Repo, paths: PodPaths, *, fetched: bool = False) -> None:
    """Build the image of `repo` into the image layout, from the checkout if it is `fetched`.

    Raises a UserError, mostly BuildFailed.
    """
    _check(repo)
    for name, folder in {"HOME": "home", "TMPDIR": "tmp", "XDG_RUNTIME_DIR": "run"}.items():
        (paths.build / folder).mkdir(mode=0o700, exist_ok=True)
        os.environ[name] = str(paths.build / folder)
    _configure_registries(paths.build / "home")
    checkout = paths.build / CHECKOUT
    if not fetched:
        asyncio.run(fetch(repo, checkout))
    labels = labels_of(checkout)
    image = Image(log=_log())
    image.paths = paths
    image.repo, image.ref, image.output_image_spec = str(checkout), repo.revision, "environment"
    image.user_id, image.user_name, image.run, image.push = USER_ID, "jovyan", False, False
    image.appendix, image.labels = appendix(USER_ID), {"repo2docker.repo": repo.ref.url.translate(_UNQUOTED), **labels}
    image.base_image = os.environ.get("PANGEO_BINDER_BASE_IMAGE") or image.base_image
    try:
        image.build()
    except BuildError as error:
        at = f" at the step `{error}`" if str(error) else ""
        raise BuildFailed(f"Building the repository's image failed{at}.", "The log says why.") from None
    except (ValueError, UnicodeDecodeError, FileNotFoundError, SystemExit):
        logging.getLogger("repo2docker").exception("repo2docker ended\n")
        raise BuildFailed("repo2docker cannot read the repository's configuration.", "The log says why.") from None


def _check(repo: Repo) -> None:
    if repo.ref.url.startswith("-") or not _is_revision(repo):
        raise BuildFailed("The build did not get a valid repository URL and commit.", "Tell the binder's operator.")


def _is_revision(repo: Repo) -> bool:
    if repo.fetch is FetchKind.GIT:
        return _COMMIT.fullmatch(repo.revision) is not None
    return _RECORD.fullmatch(repo.revision) is not None and web_parts(repo.files_url) is not None


_UNQUOTED = {ord(mark): None for mark in '"\\$\n'}  # repo2docker does not quote labels in the Dockerfile


async def fetch(repo: Repo, into: Path, token: Path | None = None) -> None:
    """Check out `repo` into `into` and print the log; by https with the token in a file. Raises as `check_out` does."""
    rules = make_rules(*(os.environ.get(name, "").split() for name in (GIT_HOSTS, GIT_NETWORKS)))
    access = GitAccess(addresses=rules)
    if token is not None and is_confidential(repo.ref.url):
        access = replace(access, token_files=lambda url: token if url == repo.ref.url else None)
    fetching = check_out(repo, into, access, time.monotonic() + _FETCH_SECONDS)
    async with aclosing(fetching) as lines:
        async for line in lines:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


def _configure_registries(home: Path) -> None:
    """Configure the registry for image names without a host, and the registries without TLS, for all engines."""
    # the host of repo2docker's base image, which is Docker's default registry
    short_names = Repo2Docker.base_image.default_value.partition("/")[0]
    plain = os.environ.get("PANGEO_BINDER_PLAIN_HTTP", "").split()
    podman = [f'unqualified-search-registries = ["{short_names}"]']
    podman += [f'[[registry]]\nlocation = "{host}"\ninsecure = true' for host in plain]
    buildkit = [f'[registry."{host}"]\nhttp = true' for host in plain]
    for name, lines in (("containers/registries.conf", podman), ("buildkit/buildkitd.toml", buildkit)):
        file = home / ".config" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join([*lines, ""]))


def _log() -> logging.Logger:
    """Return repo2docker's logger, set up to write to stdout, where it keeps the order with other output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.terminator = ""  # repo2docker's messages end with a newline
    log = logging.getLogger("repo2docker")
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    return log


def push(reference: str, credentials: str, plain_http: bool, paths: PodPaths) -> str:
    """Push the image as `reference` and return its digest. Raises BuildFailed."""
    # `build` may have left a link to the password, so that we would push it. No file changes after this check: `build`
    # has ended, and this directory is read-only
    if any(path.is_symlink() or not (path.is_file() or path.is_dir()) for path in paths.image.rglob("*")):
        raise BuildFailed("The build's output is not a valid image.", "The binder has discarded it.")
    if credentials and takes_images_from_anyone(reference, plain_http):
        raise BuildFailed(
            "The image was not pushed: this binder's registry takes images without a password.",
            "Tell the binder's operator: the steps of any build could replace the images of others.",
        )
    options = ["--quiet", "--retry-times=3", *([f"--dest-authfile={credentials}"] if credentials else [])]
    options += ["--dest-tls-verify=false"] if plain_http else []
    sys.stdout.write("Pushing the image\n")
    sys.stdout.flush()
    with tempfile.NamedTemporaryFile("r") as digest:
        options.append(f"--digestfile={digest.name}")
        command = ["skopeo", "copy", *options, "--", f"oci:{paths.image}", f"docker://{reference}"]
        if subprocess.run(command, stdout=sys.stdout, stderr=subprocess.STDOUT, check=False).returncode:
            raise BuildFailed(
                "The image was built but could not be pushed to this binder's registry.", "Try again later."
            )
        return Path(digest.name).read_text().strip()


def takes_images_from_anyone(reference: str, plain_http: bool) -> bool:
    """Return whether the registry of `reference` starts an upload without a password, as for the steps of a build.

    It may also give a token for it to everyone. False if it does not answer: the push itself reports that. An upload
    that is never finished expires.
    Protocol: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pushing-a-blob-monolithically and
    https://distribution.github.io/distribution/spec/auth/token/
    """
    registry, _, image = reference.partition("/")
    name = image.rpartition(":")[0]
    url = f"{'http' if plain_http else 'https'}://{registry}/v2/{name}/blobs/uploads/"
    try:
        status, headers, _ = _request("POST", url)
        for challenge in headers.get_all("WWW-Authenticate", []) if status == http.client.UNAUTHORIZED else []:
            if token := _anonymous_token(challenge, f"repository:{name}:pull,push"):
                status, _, _ = _request("POST", url, f"Bearer {token}")
        return status == http.client.ACCEPTED
    except (OSError, http.client.HTTPException, ValueError):
        return False


def _anonymous_token(challenge: str, scope: str) -> str:
    """Return the token that the token service of `challenge` gives to everyone for `scope`; empty if it gives none."""
    kind, _, rest = challenge.partition(" ")
    asked = dict(_PARAMETER.findall(rest))
    if kind.lower() != "bearer" or "realm" not in asked:
        return ""
    query = urlencode({"service": asked.get("service", ""), "scope": scope})
    status, _, body = _request("GET", f"{asked['realm']}?{query}")
    answer = json.loads(body) if status == http.client.OK else {}
    return str(answer.get("token") or answer.get("access_token") or "") if isinstance(answer, dict) else ""


def _request(method: str, url: str, authorization: str = "") -> tuple[int, Message, bytes]:
    """Return the status, headers and first bytes of an answer. Raises OSError, HTTPException or ValueError."""
    parts = urlsplit(url)
    kind = http.client.HTTPConnection if parts.scheme == "http" else http.client.HTTPSConnection
    connection = kind(parts.netloc, timeout=_PROBE_SECONDS)
    try:
        headers = {"Authorization": authorization} if authorization else {}
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read(_PROBE_BYTES)
    finally:
        connection.close()


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pangeo-binder-build")
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser(BUILD)
    building.add_argument("--ref", default="HEAD")
    building.add_argument("--provider", default="git")
    building.add_argument("--files-url", default="")
    building.add_argument("--fetched", action="store_true")
    fetching = commands.add_parser(FETCH)
    fetching.add_argument("--ref", default="HEAD")
    fetching.add_argument("--token-file", type=Path)
    for command in (building, fetching):
        command.add_argument("url")
        command.add_argument("commit")
    pushing = commands.add_parser(PUSH)
    pushing.add_argument("--credentials", default="")
    pushing.add_argument("--plain-http", action="store_true")
    pushing.add_argument("reference")
    return parser.parse_args(argv)


def main(argv: Sequence[str], paths: PodPaths = PodPaths()) -> int:  # noqa: B008 - frozen
    """Run one command and return its exit code."""
    args = _arguments(argv)
    try:
        if args.command == BUILD:
            kind = FetchKind.ARCHIVE if args.files_url else FetchKind.GIT
            repo = Repo(RepoRef(args.provider, args.url, args.ref), args.commit, kind, args.files_url)
            build(repo, paths, fetched=args.fetched)
        elif args.command == FETCH:
            repo = Repo(RepoRef("git", args.url, args.ref), args.commit)
            _check(repo)
            asyncio.run(fetch(repo, paths.build / CHECKOUT, args.token_file))
        else:
            digest = push(args.reference, args.credentials, args.plain_http, paths)
            if paths.report.exists():
                paths.report.write_text(digest)
    except UserError as error:
        sys.stdout.write(f"{error}\n")
        if paths.report.exists():
            paths.report.write_text(refusal_text(error)[:_REPORT_CHARACTERS])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
