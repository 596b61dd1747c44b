"""Files of a record are downloaded within limits and verified, and a failure leaves nothing and has one sentence."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path

import pytest

from pangeo_binder.archives.base import ArchiveFile, ArchiveFiles
from pangeo_binder.builders.archive import ArchiveCheckout
from pangeo_binder.builders.base import identity
from pangeo_binder.builders.contents import ArchiveLimits
from pangeo_binder.command import CommandTimedOut
from pangeo_binder.errors import UserError
from pangeo_binder.model import FetchKind, Repo, RepoRef
from tests.builders.hostile import HOSTILE, declaring, zipped
from tests.repos.fileserver import FileServer, file_server

__all__ = ["file_server"]

DATA = b"sea level\n" * 100


class Listed(ArchiveCheckout):
    """A checkout of a record whose list of files is known."""

    listed: ArchiveFiles

    async def list_files(self) -> ArchiveFiles:
        return self.listed


class Case:
    """Records of one server, fetched into one folder."""

    def __init__(self, server: FileServer, folder: Path) -> None:
        self.server = server
        self.into = folder / "checkout"
        self._folder = folder
        self.limits = ArchiveLimits()
        self.deadline = time.monotonic() + 60

    def repo(self) -> Repo:
        ref = RepoRef("zenodo", "https://zenodo.example/records/1", "")
        return Repo(ref, "1", FetchKind.ARCHIVE, f"{self.server.url}/api/records/1/files")

    def store(self, path: str, content: bytes = DATA, checksum: str = "", size: int | None = None) -> ArchiveFile:
        """Store a file at the server, and return it as the archive lists it."""
        self.server.files[f"/{len(self.server.files)}"] = content
        return ArchiveFile(path, f"{self.server.url}/{len(self.server.files) - 1}", size, checksum)

    def checkout(self, *files: ArchiveFile, unpack: bool = False) -> Listed:
        checkout = Listed(self.repo(), self.into, self.deadline, self.limits)
        checkout.listed = ArchiveFiles(files, unpack)
        return checkout

    async def log(self, *files: ArchiveFile, unpack: bool = False) -> str:
        return "\n".join([line async for line in self.checkout(*files, unpack=unpack).run()])

    async def refusal(self, *files: ArchiveFile, unpack: bool = False) -> UserError:
        """Return the error with which a record is refused; nothing is left."""
        with pytest.raises(UserError) as refused:
            await self.log(*files, unpack=unpack)
        assert list(self._folder.iterdir()) == []
        return refused.value

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.into.rglob("*") if path.is_file())
        return {str(path.relative_to(self.into)): path.read_bytes() for path in found}


@pytest.fixture
def case(file_server: FileServer, tmp_path: Path) -> Case:
    folder = tmp_path / "build"
    folder.mkdir()
    return Case(file_server, folder)


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow one another at once."""
    monkeypatch.setattr("pangeo_binder.builders.archive._RETRY_SECONDS", 0)


@pytest.mark.parametrize("digest", ["md5", "sha1", "sha256", "crc32", ""])
async def test_files_are_downloaded_into_their_folders(case: Case, digest: str) -> None:
    checksum = f"{digest}:{hashlib.new(digest, DATA).hexdigest()}" if digest in hashlib.algorithms_available else ""
    log = await case.log(case.store("readme.md", b"x"), case.store("data/sea.csv", DATA, checksum, len(DATA)))
    assert case.files() == {"readme.md": b"x", "data/sea.csv": DATA}
    assert "Fetching https://zenodo.example/records/1 at 1" in log
    assert "Downloading file 2 of 2, 0.0 MiB: data/sea.csv" in log
    assert list(case.into.parent.iterdir()) == [case.into]


@pytest.mark.parametrize(
    ("checksum", "size"),
    [
        (f"md5:{'0' * 32}", None),
        (f"sha256:{'0' * 64}", len(DATA)),
        ("md5:", None),
        ("", len(DATA) - 1),
        ("", len(DATA) + 1),
    ],
)
async def test_a_file_that_differs_from_the_record_is_refused(case: Case, checksum: str, size: int | None) -> None:
    error = await case.refusal(case.store("good", b"x"), case.store("sea.csv", DATA, checksum, size))
    assert error.message == "The archive sent another file than the one that its record lists: `sea.csv`."


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("../evil", "outside of its folder"),
        ("/etc/evil", "outside of its folder"),
        ("a\nb", "not readable text"),
        ("", "a file without a name"),
        ("a/", "a file without a name"),
        ("good", "two files of the same name"),
        ("good/b", "two files of the same name"),
    ],
)
async def test_a_hostile_name_is_refused(case: Case, path: str, sentence: str) -> None:
    assert sentence in (await case.refusal(case.store("good"), case.store(path))).message


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (ArchiveLimits(files=1), "This record has more than 1 files and folders."),
        (ArchiveLimits(total_bytes=1500), "more than 1.465K together"),
        (ArchiveLimits(file_bytes=999), "A file of this record has more than 999 bytes."),
    ],
)
@pytest.mark.parametrize("size", [len(DATA), None])
async def test_a_record_above_a_limit_is_refused(
    case: Case, limits: ArchiveLimits, sentence: str, size: int | None
) -> None:
    case.limits = limits
    error = await case.refusal(case.store("a", size=size), case.store("b", size=size))
    assert sentence in error.message and error.reason == "repo_too_large"
    if size and limits.files > 1:
        assert case.server.asked == [], "refused before anything is downloaded"


async def test_a_record_that_takes_too_long_is_refused(case: Case) -> None:
    case.limits = ArchiveLimits(seconds=0)
    error = await case.refusal(case.store("a"))
    assert error.message.startswith("Fetching the files of this record took longer than")
    case.limits, case.deadline = ArchiveLimits(), time.monotonic()
    with pytest.raises(CommandTimedOut):
        await case.log(case.store("a"))
    assert not case.into.exists()


async def test_redirects_are_followed_to_an_end(case: Case) -> None:
    file = case.store("a")
    case.server.files["/elsewhere"] = b"moved"
    case.server.moved["/0"] = "/elsewhere"
    await case.log(file)
    assert case.files() == {"a": b"moved"}


@pytest.mark.usefixtures("no_wait")
async def test_endless_redirects_are_refused(case: Case) -> None:
    file = case.store("a")
    case.server.moved["/0"] = "/0"
    assert (await case.refusal(file)).message == "The record's file `a` could not be downloaded."
    assert len(case.server.asked) == 5


@pytest.mark.parametrize(
    "other", ["http://localhost:{port}", "http://[::1]:{port}", "http://127.0.0.1:1", "file:///etc"]
)
@pytest.mark.parametrize("redirected", [False, True])
async def test_a_record_cannot_send_the_binder_to_a_private_address(case: Case, other: str, redirected: bool) -> None:
    target = other.format(port=case.server.server_port) + "/0"
    file = case.store("a")
    case.server.moved.update({"/0": target} if redirected else {})
    error = await case.refusal(file if redirected else ArchiveFile("a", target, None, ""))
    assert error.message.startswith("The files of this record cannot be fetched, because their server names an address")
    assert len(case.server.asked) == redirected


@pytest.mark.parametrize(
    ("statuses", "reason"),
    [
        ([404], "repo_not_found"),
        ([403], "repo_not_found"),
        ([503, 503, 503], "host_unavailable"),
        ([429, 429, 429], "host_busy"),
    ],
)
@pytest.mark.usefixtures("no_wait")
async def test_a_file_that_is_not_sent_has_a_sentence(case: Case, statuses: list[int], reason: str) -> None:
    file = case.store("a")
    case.server.statuses["/0"] = statuses
    error = await case.refusal(file)
    assert error.reason == reason and "`a`" in error.message and error.hint
    assert statuses == []


@pytest.mark.usefixtures("no_wait")
async def test_a_download_that_fails_once_is_tried_again(case: Case) -> None:
    file = case.store("a", DATA, f"md5:{hashlib.md5(DATA).hexdigest()}")
    case.server.statuses["/0"] = [503, 429]
    await case.log(file)
    assert case.files() == {"a": DATA}


@pytest.mark.usefixtures("no_wait")
async def test_a_broken_connection_leaves_nothing(case: Case) -> None:
    file = case.store("a", b"x" * 1000)
    case.server.breaks.add("/0")
    assert (await case.refusal(file)).message == "The record's file `a` could not be downloaded."
    assert len(case.server.asked) == 3


async def test_a_record_without_files_is_refused(case: Case) -> None:
    assert (await case.refusal()).message == "This record has no files that anyone may download."


@pytest.mark.processes
async def test_a_record_of_one_zip_is_unpacked(case: Case, tmp_path: Path) -> None:
    zipped(("org-repo-1/requirements.txt", b"numpy"), ("org-repo-1/a/b.ipynb", b"{}"))(tmp_path / "a.zip")
    file = case.store("org/repo.zip", (tmp_path / "a.zip").read_bytes())
    log = await case.log(file, unpack=True)
    assert case.files() == {"requirements.txt": b"numpy", "a/b.ipynb": b"{}"}
    assert "Unpacked 4 files and folders, 0.0 MiB" in log
    assert list(case.into.parent.iterdir()) == [case.into]


@pytest.mark.processes
async def test_a_record_of_one_other_file_stays_as_it_is(case: Case) -> None:
    assert "neither a zip nor a tar archive" in await case.log(case.store("data/sea.csv"), unpack=True)
    assert case.files() == {"data/sea.csv": DATA}


@pytest.mark.processes
async def test_a_header_that_needs_too_much_memory_is_refused(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pangeo_binder.builders.archive._MEMORY_BYTES", 256 << 20)
    declaring(300 << 20)(tmp_path / "a.tar.gz")
    error = await case.refusal(case.store("a.tar.gz", (tmp_path / "a.tar.gz").read_bytes()), unpack=True)
    assert error.message == "The archive of this record needs more memory than this binder has for it."


@pytest.mark.processes
async def test_a_hostile_archive_is_refused_and_nothing_is_left(case: Case, tmp_path: Path) -> None:
    make, sentence = HOSTILE["zip: above"]
    make(tmp_path / "a.zip")
    error = await case.refusal(case.store("a.zip", (tmp_path / "a.zip").read_bytes()), unpack=True)
    assert sentence in error.message and error.reason == "build_failed"


async def test_a_fetch_that_is_cancelled_leaves_nothing(case: Case, unresponsive_server: str) -> None:
    slow = ArchiveFile("a", f"{unresponsive_server}/a", None, "")
    checkout = Listed(
        Repo(case.repo().ref, "1", FetchKind.ARCHIVE, unresponsive_server), case.into, case.deadline, case.limits
    )
    checkout.listed = ArchiveFiles((slow,), False)

    async def follow() -> None:
        async for _ in checkout.run():
            started.set()

    started = asyncio.Event()
    task = asyncio.create_task(follow())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(case.into.parent.iterdir()) == []


def test_records_of_two_kinds_never_share_an_environment(case: Case) -> None:
    record = case.repo()
    other = Repo(RepoRef("ckan", record.ref.url, ""), record.revision, record.fetch)
    cloned = Repo(RepoRef("git", record.ref.url, ""), record.revision)
    hosted = Repo(RepoRef("gh", record.ref.url, ""), record.revision)
    assert len({identity(each) for each in (record, other, cloned)}) == 3
    assert identity(cloned) == identity(hosted), "kinds that git reads share environments"
