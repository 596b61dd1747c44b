"""Container images for the test cluster, built here: from Debian's packages, the package indexes and this checkout.

No container registry is asked for anything. Images are kept as archives in the cache, under a name made from all that
goes into them, so that each is built once; what no image of today is made of is removed after each build. Not for what
images hold: that is in `images/`.
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
_MACHINES_OWN = ("/etc/ssl/certs", "/etc/pip.conf", "/etc/resolv.conf", "/usr/share/ca-certificates")
"""How this machine reaches the package indexes; seen by a build's steps, and no part of the image."""


_KEPT = 2
"""How many archives of each image stay in the cache."""


def image(name: str) -> str:
    """Return the reference of one of the project's own images."""
    return f"cluster.test/pangeo-binder/{name}:test"


def system_archives(tools: ClusterTools) -> tuple[Path, ...]:
    """Return archives of the images that hold one program of the cluster's own each: pause and CoreDNS."""
    programs = ((tools.pause, PAUSE_IMAGE), (tools.coredns, DNS_IMAGE))
    return tuple(_one_program(program, name) for program, name in programs)


def base_archive() -> Path:
    """Return an archive of the base image: Debian with Python."""
    return _kept("base", _digest([_BASE_PACKAGES, *_SLIM]), BASE, _ensure_base)


def archive(name: str) -> Path:
    """Return an archive of the project's image `name`, built from `images/<name>/Dockerfile` where it has changed."""
    programs = _buildkit_programs() if name == "builder" else {}
    return _made(ROOT / "images" / name / "Dockerfile", image(name), _sources(name), programs)


def stand_in_archive(name: str) -> Path:
    """Return an archive of an image that stands in for one of the official charts': `proxy` or `traefik`."""
    return _made(HERE / "containers" / name / "Dockerfile", image(name), [])


def _made(dockerfile: Path, reference: str, sources: list[Path], buildkit: dict[str, Path] | None = None) -> Path:
    programs = _digest(hashlib.sha256(path.read_bytes()).hexdigest() for path in (buildkit or {}).values())
    files = repr(sorted(_text(path) for path in sources))
    inputs = (files, dockerfile.read_text(), _BASE_PACKAGES, repr(_SLIM), programs)

    def build() -> None:
        _ensure_base()
        options = [f"--build-arg=BUILDKIT={_ensure_buildkit(buildkit, programs)}"] if buildkit else []
        with tempfile.TemporaryDirectory() as folder:
            _context(sources, Path(folder))
            _bud(dockerfile, reference, Path(folder), *options)

    return _kept(reference.split("/")[-1].split(":")[0], _digest(inputs), reference, build)


def _kept(kind: str, digest: str, reference: str, build: Callable[[], None]) -> Path:
    """Return the archive of the image `reference`, which `build` makes where the archive is not there yet."""
    target = cache_dir() / "images" / f"{kind}-{digest}.tar"
    if not target.exists():
        with _alone():
            if not target.exists():
                build()
                _save(reference, target)
                _tidy(kind)
    return target


@contextmanager
def _alone() -> Iterator[None]:
    """Keep other runs on this machine out of the place where images are built, which tidying would pull from them."""
    (cache_dir() / "images").mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _sources(name: str) -> list[Path]:
    """Return the files that go into an image: what git knows of them, changed or not."""
    parts = ["pangeo_binder", "templates", "examples", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"]
    parts = ["session", f"images/{name}", *(parts if name != "notebook" else ())]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *parts]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


def _text(path: Path) -> str:
    return f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _context(sources: list[Path], folder: Path) -> None:
    """Copy what images are made of, with nothing that lies around in a checkout beside it."""
    for source in sources:
        target = folder / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def _bud(dockerfile: Path, reference: str, context: Path, *options: str) -> None:
    volumes = [f"--volume={path}:{path}:ro" for path in _MACHINES_OWN if Path(path).exists()]
    arguments = ["--layers", f"--build-arg=BASE={BASE}", *options, "--file", str(dockerfile), "--tag", reference]
    _buildah("bud", *volumes, *arguments, str(context))


def _ensure_base() -> None:
    """Make the base image of Debian's packages, in place of the official Python image that Dockerfiles name."""
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
    """Return the name of an image that holds what BuildKit's own does: its programs, and runc (Debian's)."""
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

    return _kept(program.name, program.parent.name.removeprefix("tools-"), name, build)


def _save(name: str, target: Path) -> None:
    """Write an image into an archive, which is there whole or not at all."""
    made = target.with_name(f".{target.name}.{os.getpid()}")
    _buildah("push", name, f"docker-archive:{made}:{name}")
    made.rename(target)


def _tidy(kind: str) -> None:
    """Remove what earlier builds left: older archives, layers of no image that has a name, what a kill cut short."""
    images = cache_dir() / "images"
    found = [path for path in images.glob(f"{kind}-*.tar") if path.name.rpartition("-")[0] == kind]
    half = images.glob(f".{kind}-*")
    for old in (*half, *sorted(found, key=lambda path: path.stat().st_mtime)[:-_KEPT]):
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
