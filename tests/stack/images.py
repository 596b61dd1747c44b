"""Container images for the test cluster, built from Debian packages, the package indexes and this checkout.

Uses no container registry. The cache holds each image as an archive under the digest of its inputs, so each is built
once. After each build, layers and archives that no current image uses are removed. Not for the contents of images,
which `images/` defines.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .node_objects import DNS_IMAGE, PAUSE_IMAGE
from .tools import ClusterTools, cache_dir, tools

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BASE = "cluster.test/base:1"
_BASE_PACKAGES = "python3.11-venv,git,ca-certificates,tini"
_SLIM = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "doc", "locale", "info")]
_MACHINE_FILES = ("/etc/ssl/certs", "/etc/pip.conf", "/etc/resolv.conf", "/usr/share/ca-certificates")
"""Files with which this machine reaches the package indexes; mounted into build steps, not part of the image."""


_ARCHIVES = 2
"""How many archives of each image the cache keeps."""


def image(name: str) -> str:
    """Return the reference of one of the project's own images."""
    return f"cluster.test/pangeo-binder/{name}:test"


def system_archives(tools: ClusterTools) -> tuple[Path, ...]:
    """Return archives of the cluster's own one-program images: pause and CoreDNS."""
    programs = ((tools.pause, PAUSE_IMAGE), (tools.coredns, DNS_IMAGE))
    return tuple(_one_program(program, name) for program, name in programs)


def base_archive() -> Path:
    """Return an archive of the base image: Debian with Python."""
    return _cached("base", _digest([_BASE_PACKAGES, *_SLIM]), BASE, _ensure_base)


def archive(name: str) -> Path:
    """Return an archive of the project's image `name`; build it from `images/<name>/Dockerfile` if it changed."""
    programs = _buildkit_programs() if name == "builder" else {}
    return _built(ROOT / "images" / name / "Dockerfile", image(name), _sources(name), programs)


def stand_in_archive(name: str) -> Path:
    """Return an archive of an image that replaces one of the official charts' images: `proxy` or `traefik`."""
    return _built(HERE / "containers" / name / "Dockerfile", image(name), [])


def _built(dockerfile: Path, reference: str, sources: list[Path], buildkit: dict[str, Path] | None = None) -> Path:
    programs = _digest(hashlib.sha256(path.read_bytes()).hexdigest() for path in (buildkit or {}).values())
    files = repr(sorted(_text(path) for path in sources))
    inputs = (files, dockerfile.read_text(), _BASE_PACKAGES, repr(_SLIM), programs)

    def build() -> None:
        _ensure_base()
        options = [f"--build-arg=BUILDKIT={_ensure_buildkit(buildkit, programs)}"] if buildkit else []
        with tempfile.TemporaryDirectory() as folder:
            _context(sources, Path(folder))
            _bud(dockerfile, reference, Path(folder), *options)

    return _cached(reference.split("/")[-1].split(":")[0], _digest(inputs), reference, build)


def _cached(kind: str, digest: str, reference: str, build: Callable[[], None]) -> Path:
    """Return the archive of the image `reference`; call `build` if it is not in the cache."""
    target = cache_dir() / "images" / f"{kind}-{digest}.tar"
    if not target.exists():
        with _lock_images():
            if not target.exists():
                build()
                _save(reference, target)
                _prune(kind)
    return target


@contextmanager
def _lock_images() -> Iterator[None]:
    """Lock the image storage, because `_prune` would remove the layers of other running builds."""
    (cache_dir() / "images").mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _sources(name: str) -> list[Path]:
    """Return the source files of an image: tracked files and new files that git does not ignore."""
    parts = ["pangeo_binder", "templates", "examples", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"]
    parts = ["session", f"images/{name}", *(parts if name != "notebook" else ())]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *parts]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


def _text(path: Path) -> str:
    return f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _context(sources: list[Path], folder: Path) -> None:
    """Copy only the source files of images, without other files of the checkout."""
    for source in sources:
        target = folder / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def _bud(dockerfile: Path, reference: str, context: Path, *options: str) -> None:
    volumes = [f"--volume={path}:{path}:ro" for path in _MACHINE_FILES if Path(path).exists()]
    arguments = ["--layers", f"--build-arg=BASE={BASE}", *options, "--file", str(dockerfile), "--tag", reference]
    _buildah("bud", *volumes, *arguments, str(context))


def _ensure_base() -> None:
    """Build the base image from Debian packages; it replaces the official Python image that Dockerfiles name."""
    stamp = cache_dir() / "images" / f"base-{_digest([_BASE_PACKAGES, *_SLIM])}"
    if stamp.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        packages = f"--include={_BASE_PACKAGES}"
        command = ["mmdebstrap", "--variant=minbase", packages, *_SLIM, "bookworm", f"{folder}/base.tar"]
        subprocess.run(command, check=True, capture_output=True)
        (Path(folder) / "Dockerfile").write_text(
            "FROM scratch\nADD base.tar /\nRUN ln -s python3.11 /usr/bin/python\nENV LANG=C.UTF-8\n"
        )
        _buildah("bud", "--tag", BASE, folder)
    stamp.touch()


def _buildkit_programs() -> dict[str, Path]:
    runc = shutil.which("runc", path="/usr/sbin:/usr/bin") or "/usr/sbin/runc"
    return {"buildctl": tools().buildctl, "buildkitd": tools().buildkitd, "buildkit-runc": Path(runc)}


def _ensure_buildkit(programs: dict[str, Path], digest: str) -> str:
    """Return the name of an image with the same programs as BuildKit's own: BuildKit and Debian's runc."""
    name, stamp = f"cluster.test/buildkit:{digest}", cache_dir() / "images" / f"buildkit-{digest}"
    if not stamp.exists():
        with tempfile.TemporaryDirectory() as folder:
            for program, path in programs.items():
                shutil.copy(path, Path(folder) / program)
            (Path(folder) / "Dockerfile").write_text("FROM scratch\nCOPY build* /usr/bin/\n")
            _buildah("bud", "--tag", name, folder)
        stamp.touch()
    return name


def _one_program(program: Path, name: str) -> Path:
    def build() -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "Dockerfile").write_text(
                f'FROM scratch\nCOPY {program.name} /{program.name}\nENTRYPOINT ["/{program.name}"]\n'
            )
            shutil.copy(program, folder)
            _buildah("bud", "--tag", name, folder)

    return _cached(program.name, program.parent.name.removeprefix("tools-"), name, build)


def _save(name: str, target: Path) -> None:
    """Write an image into an archive atomically."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    _buildah("push", name, f"docker-archive:{partial}:{name}")
    partial.rename(target)


def _prune(kind: str) -> None:
    """Remove leftovers of earlier builds: older archives, untagged layers, incomplete archives."""
    images = cache_dir() / "images"
    found = [path for path in images.glob(f"{kind}-*.tar") if path.name.rpartition("-")[0] == kind]
    half = images.glob(f".{kind}-*")
    for old in (*half, *sorted(found, key=lambda path: path.stat().st_mtime)[:-_ARCHIVES]):
        old.unlink(missing_ok=True)
    _buildah("rm", "--all")
    _buildah("rmi", "--prune")


def _buildah(*arguments: str) -> None:
    storage = cache_dir() / "buildah"
    command = ["buildah", f"--root={storage}/root", f"--runroot={storage}/run", *arguments]
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
