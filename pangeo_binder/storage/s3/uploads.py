"""The parts of unfinished multipart uploads, as files: they survive a restart and count against scratch.

Layout: `<uploads>/<launch id>/<upload id>/upload.json` and one `<number>.<md5>` file per part. An upload id is
valid only for its launch and key. Blocking; not for S3's wire format (`multipart`).
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .errors import S3Error
from .spool import Spool

MAX_PARTS = 10_000
MAX_UPLOADS = 1000
"""Unfinished uploads of one launch; a client with more leaks uploads."""
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_ABOUT = "upload.json"


@dataclass(frozen=True, slots=True)
class Part:
    """One stored part of an upload."""

    number: int
    md5: str
    size: int
    modified: datetime
    path: Path


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
            if path.name != _ABOUT and number.isdecimal():
                status = path.stat()
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                found.append(Part(int(number), md5, status.st_size, modified, path))
        return sorted(found, key=lambda part: part.number)

    def part(self, number: int) -> Part | None:
        """Return the part `number`; None if there is none."""
        return next((part for part in self.parts() if part.number == number), None)

    def store(self, number: int, spool: Spool) -> str:
        """Move the spool's file to the part `number`, replacing an older one; return its MD5."""
        old, source, md5 = self.part(number), spool.file(), spool.md5.hexdigest()
        target = self.folder / f"{number:05d}.{md5}"
        source.replace(target)
        spool.release_file()
        if old is not None and old.path != target:
            old.path.unlink(missing_ok=True)
        return md5

    def size(self) -> int:
        """Return the total size of its parts, in bytes."""
        return sum(part.size for part in self.parts())

    def delete(self) -> None:
        """Delete the upload and its parts."""
        shutil.rmtree(self.folder, ignore_errors=True)


def begin(uploads: Path, launch_id: str, key: str, content_type: str) -> Upload:
    """Create an upload to `key`. Raises S3Error if the launch has MAX_UPLOADS."""
    home = uploads / launch_id
    home.mkdir(mode=0o700, exist_ok=True)
    if sum(1 for _ in home.iterdir()) >= MAX_UPLOADS:
        raise S3Error("SlowDown", f"This launch has {MAX_UPLOADS} unfinished multipart uploads; abort some.")
    upload = Upload(secrets.token_hex(16), key, content_type, home)
    folder = home / upload.id
    folder.mkdir(mode=0o700)
    (folder / _ABOUT).write_text(json.dumps({"key": key, "content_type": content_type}))
    return Upload(upload.id, key, content_type, folder)


def find(uploads: Path, launch_id: str, upload_id: str, key: str) -> Upload:
    """Return the launch's upload `upload_id` to `key`. Raises S3Error if there is none."""
    folder = uploads / launch_id / upload_id
    missing = S3Error("NoSuchUpload", "There is no such upload: it was completed, aborted, or has another key.")
    if not _UPLOAD_ID.fullmatch(upload_id):
        raise missing
    try:
        about = json.loads((folder / _ABOUT).read_text())
    except (OSError, ValueError):
        raise missing from None
    if about["key"] != key:
        raise missing
    return Upload(upload_id, key, about["content_type"], folder)


def measure_uploads(uploads: Path, launch_id: str) -> int:
    """Return the total size of the launch's unfinished uploads, in bytes."""
    home = uploads / launch_id
    files = home.glob("*/*.*") if home.is_dir() else iter(())
    return sum(path.stat().st_size for path in files if path.name != _ABOUT)


def abort_uploads(uploads: Path, launch_id: str) -> None:
    """Abort all of the launch's uploads."""
    shutil.rmtree(uploads / launch_id, ignore_errors=True)
