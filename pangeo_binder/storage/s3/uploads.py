"""The parts of unfinished multipart uploads, as files: they survive a restart and count against scratch.

Layout: `<uploads>/<launch id>/<upload id>/upload.json` and one `<number>.<md5>` file per part. `complete.json` in the
same folder says which object Complete is about to make. Once the object exists, that file moves to
`<completed>/<launch id>/<upload id>.json`, so that a repeated Complete gets the same answer. An upload id is valid only
for its launch and key. Blocking; not for S3's wire format (`multipart`).
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..durable import Durability, sync_file, sync_folder, write_file
from .errors import S3Error
from .spool import Spool

MAX_PARTS = 10_000
MAX_COMPLETED = 256
"""Completed uploads that are remembered for each launch."""
UPLOAD_FILES = 2
"""The files and folders of an upload without parts."""
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_ABOUT, _INTENT = "upload.json", "complete.json"


@dataclass(frozen=True, slots=True)
class Part:
    """One stored part of an upload."""

    number: int
    md5: str
    size: int
    modified: datetime
    path: Path


@dataclass(frozen=True, slots=True)
class Completion:
    """The object that a Complete makes or made."""

    key: str
    etag: str
    parts: str
    """A digest of the parts that the request named."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An unfinished upload."""

    id: str
    key: str
    content_type: str
    folder: Path

    def parts(self) -> list[Part]:
        """Return its parts, sorted by number."""
        found = []
        for path in self.folder.iterdir():
            number, _, md5 = path.name.partition(".")
            if number.isdecimal():
                status = path.stat()
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                found.append(Part(int(number), md5, status.st_size, modified, path))
        return sorted(found, key=lambda part: part.number)

    def part(self, number: int) -> Part | None:
        """Return the part `number`; None if there is none."""
        return next((part for part in self.parts() if part.number == number), None)

    def intent(self) -> Completion | None:
        """Return what an interrupted Complete was about to make; None if there was none."""
        return _read_completion(self.folder / _INTENT)

    def delete(self) -> None:
        """Delete the upload and its parts."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Uploads:
    """All uploads, of all launches."""

    folder: Path
    completed: Path
    durability: Durability

    def begin(self, launch_id: str, key: str, content_type: str, limit: int) -> Upload:
        """Create an upload to `key`. Raises S3Error if the launch has `limit` uploads."""
        home = self.folder / launch_id
        home.mkdir(mode=0o700, exist_ok=True)
        if sum(1 for _ in home.iterdir()) >= limit:
            raise S3Error("SlowDown", f"This launch has {limit} unfinished multipart uploads; abort some.")
        upload = Upload(secrets.token_hex(16), key, content_type, home)
        folder = home / upload.id
        folder.mkdir(mode=0o700)
        try:
            write_file(folder / _ABOUT, json.dumps({"key": key, "content_type": content_type}), self.durability)
            sync_folder(home, self.durability)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Upload(upload.id, key, content_type, folder)

    def find(self, launch_id: str, upload_id: str, key: str) -> Upload:
        """Return the launch's upload `upload_id` to `key`. Raises S3Error if there is none."""
        missing = S3Error("NoSuchUpload", "There is no such upload: it was completed, aborted, or has another key.")
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise missing
        folder = self.folder / launch_id / upload_id
        try:
            about = json.loads((folder / _ABOUT).read_text())
        except (OSError, ValueError):
            raise missing from None
        if about["key"] != key:
            raise missing
        return Upload(upload_id, key, about["content_type"], folder)

    def store(self, upload: Upload, number: int, spool: Spool) -> str:
        """Move the spool's file to the part `number`, replacing an older one; return its MD5."""
        old, source, md5 = upload.part(number), spool.file(), spool.md5.hexdigest()
        target = upload.folder / f"{number:05d}.{md5}"
        sync_file(source, self.durability)
        source.replace(target)
        spool.release_file()
        sync_folder(upload.folder, self.durability)
        if old is not None and old.path != target:
            old.path.unlink(missing_ok=True)
        return md5

    def intend(self, upload: Upload, completion: Completion) -> None:
        """Record durably which object is about to be made from `upload`."""
        write_file(upload.folder / _INTENT, json.dumps(asdict(completion)), self.durability)

    def finish(self, launch_id: str, upload: Upload) -> None:
        """Remember `upload`, whose object exists, as completed, and delete its parts."""
        home = self.completed / launch_id
        home.mkdir(mode=0o700, exist_ok=True)
        (upload.folder / _INTENT).replace(home / f"{upload.id}.json")
        sync_folder(home, self.durability)
        upload.delete()
        known = sorted(home.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in known[:-MAX_COMPLETED]:
            path.unlink(missing_ok=True)

    def completion(self, launch_id: str, upload_id: str) -> Completion | None:
        """Return the object that the completed upload `upload_id` made; None if there is no such upload."""
        if not _UPLOAD_ID.fullmatch(upload_id):
            return None
        return _read_completion(self.completed / launch_id / f"{upload_id}.json")

    def measure(self, launch_id: str) -> tuple[int, int]:
        """Return the total size of the launch's unfinished uploads in bytes, and the number of their files."""
        size = files = 0
        home = self.folder / launch_id
        for folder in home.iterdir() if home.is_dir() else ():
            files += UPLOAD_FILES
            with contextlib.suppress(FileNotFoundError):  # completed or aborted meanwhile
                for path in folder.iterdir():
                    if path.name.partition(".")[0].isdecimal():
                        size, files = size + path.stat().st_size, files + 1
        return size, files

    def abort_all(self, launch_id: str) -> None:
        """Abort all of the launch's uploads, and forget its completed ones."""
        shutil.rmtree(self.folder / launch_id, ignore_errors=True)
        shutil.rmtree(self.completed / launch_id, ignore_errors=True)


def _read_completion(path: Path) -> Completion | None:
    try:
        return Completion(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
