"""The two commands of a build pod: `build` makes an image of a commit with repo2docker, `push` brings it to a registry.

`build` runs the repository's code and knows no secret; `push` runs none of it and reads the registry's password from a
file. Each says in one sentence why it failed, where Kubernetes looks for it. Runs in build pods.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from ...errors import BuildFailed, UserError, refusal_text
from ...git import GitAccess
from ...kube.pods import USER_ID
from ...model import Repo, RepoRef
from ..checkout import Checkout
from ..image_labels import labels_of
from ..pod_layout import BUILD, PUSH, Places
from .appendix import appendix

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # repo2docker's own imports
    from repo2docker.app import Repo2Docker

    from .buildkit import BuildKitEngine
    from .engines import BuildahEngine, BuildError, LayoutEngine

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_FETCH_SECONDS = 24 * 3600  # the pod has the one limit that counts
_REPORT_CHARACTERS = 2000


class Image(Repo2Docker):
    """repo2docker, with an engine that leaves an image layout."""

    places: Places

    def get_engine(self) -> LayoutEngine:
        """Return the engine that the operator chose."""
        kind = BuildKitEngine if os.environ.get("PANGEO_BINDER_ENGINE") == "buildkit" else BuildahEngine
        return kind(parent=self, layout=self.places.image, session=self.places.session)


def build(repo: Repo, places: Places) -> None:
    """Leave the image of `repo` in its place. Raises a UserError, mostly BuildFailed."""
    if repo.ref.url.startswith("-") or not _COMMIT.fullmatch(repo.revision):
        raise BuildFailed("The build was asked for what is no commit of a repository.", "Tell the binder's operator.")
    for name, folder in {"HOME": "home", "TMPDIR": "tmp", "XDG_RUNTIME_DIR": "run"}.items():
        (places.build / folder).mkdir(mode=0o700, exist_ok=True)
        os.environ[name] = str(places.build / folder)
    _configure_registries(places.build / "home")
    checkout = places.build / "checkout"
    asyncio.run(fetch(repo, checkout))
    labels = labels_of(checkout)
    image = Image(log=_log())
    image.places = places
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
        raise BuildFailed("repo2docker cannot read what the repository asks for.", "The log says why.") from None


_UNQUOTED = {ord(mark): None for mark in '"\\$\n'}  # repo2docker writes labels into the Dockerfile as they are


async def fetch(repo: Repo, into: Path) -> None:
    """Check out `repo`, and write git's lines. Raises what Checkout raises."""
    fetching = Checkout(repo, into, GitAccess(), time.monotonic() + _FETCH_SECONDS).run()
    async with aclosing(fetching) as lines:
        async for line in lines:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


def _configure_registries(home: Path) -> None:
    """Tell the engines where names of images without a host are, and which registries speak http."""
    # Docker's own default, and so repo2docker's
    short_names = Repo2Docker.base_image.default_value.partition("/")[0]
    plain = os.environ.get("PANGEO_BINDER_PLAIN_HTTP", "").split()
    podman = [f'unqualified-search-registries = ["{short_names}"]']
    podman += [f'[[registry]]\nlocation = "{place}"\ninsecure = true' for place in plain]
    buildkit = [f'[registry."{place}"]\nhttp = true' for place in plain]
    for name, lines in (("containers/registries.conf", podman), ("buildkit/buildkitd.toml", buildkit)):
        file = home / ".config" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join([*lines, ""]))


def _log() -> logging.Logger:
    """Return repo2docker's log, which goes where all else of the build goes, in order."""
    handler = logging.StreamHandler(sys.stdout)
    handler.terminator = ""  # its lines bring their own
    log = logging.getLogger("repo2docker")
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    return log


def push(reference: str, credentials: str, plain_http: bool, places: Places) -> None:
    """Push the image as `reference`. Raises BuildFailed."""
    # `build` could have left a link to the password here for us to push; it has ended, and this directory is read-only
    if any(path.is_symlink() or not (path.is_file() or path.is_dir()) for path in places.image.rglob("*")):
        raise BuildFailed("The build left something that is no image.", "Nothing was kept of it.")
    options = ["--quiet", "--retry-times=3", *([f"--dest-authfile={credentials}"] if credentials else [])]
    options += ["--dest-tls-verify=false"] if plain_http else []
    sys.stdout.write("Pushing the image\n")
    sys.stdout.flush()
    command = ["skopeo", "copy", *options, "--", f"oci:{places.image}", f"docker://{reference}"]
    if subprocess.run(command, stdout=sys.stdout, stderr=subprocess.STDOUT, check=False).returncode:
        raise BuildFailed("The image was built, but could not be pushed to this binder's registry.", "Try again later.")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pangeo-binder-build")
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser(BUILD)
    building.add_argument("--ref", default="HEAD")
    building.add_argument("url")
    building.add_argument("commit")
    pushing = commands.add_parser(PUSH)
    pushing.add_argument("--credentials", default="")
    pushing.add_argument("--plain-http", action="store_true")
    pushing.add_argument("reference")
    return parser.parse_args(argv)


def main(argv: Sequence[str], places: Places = Places()) -> int:  # noqa: B008 - frozen
    """Run one command and return its exit code."""
    wanted = _arguments(argv)
    try:
        if wanted.command == BUILD:
            build(Repo(RepoRef("git", wanted.url, wanted.ref), wanted.commit), places)
        else:
            push(wanted.reference, wanted.credentials, wanted.plain_http, places)
    except UserError as error:
        sys.stdout.write(f"{error}\n")
        if places.report.exists():
            places.report.write_text(refusal_text(error)[:_REPORT_CHARACTERS])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
