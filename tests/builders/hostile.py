"""Zip and tar archives as an attacker makes them, each with a part of the sentence that refuses it."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

Maker = Callable[[Path], None]

OUTSIDE = "lies outside of its folder"
LINK = "has a link that leads out of its folder"
SPECIAL = "is neither a file, a folder nor a link"
TWICE = "two files of the same name"
UNREADABLE = "whose name is not readable text"
TOO_LONG = "name is too long, or in too many folders"
DAMAGED = "is damaged"


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> Maker:
    """Make a zip of `members`."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a name twice
            for name, content in members:
                archive.writestr(name, content)

    return make


def of_mode(name: str, mode: int) -> zipfile.ZipInfo:
    """Return a zip's member with a Unix mode."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def link(name: str, target: str) -> tuple[zipfile.ZipInfo, bytes]:
    """Return a zip's symbolic link."""
    return of_mode(name, stat.S_IFLNK | 0o777), target.encode()


def patched(make: Maker, old: bytes, new: bytes) -> Maker:
    """Make an archive and replace bytes of it."""

    def make_patched(path: Path) -> None:
        make(path)
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new))

    return make_patched


def tarred(*members: tuple[str, bytes, bytes, str], mode: str = "w:gz") -> Maker:
    """Make a tar of members, each with its name, type, content and the target of a link."""

    def make(path: Path) -> None:
        with tarfile.open(path, mode) as archive:
            for name, kind, content, target in members:
                info = tarfile.TarInfo(name)
                info.type, info.size, info.linkname = kind, len(content), target
                archive.addfile(info, io.BytesIO(content))

    return make


def cut(make: Maker) -> Maker:
    """Make the first half of an archive."""

    def make_cut(path: Path) -> None:
        make(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return make_cut


def overlapping(path: Path) -> None:
    """Make a zip whose names share one file's bytes, so that its size does not grow with what it unpacks to."""
    zipped(("a", bytes(1 << 20)), ("b", b"x"))(path)
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\x01\x02")
    first = content.index(b"PK\x01\x02")
    content[second + 42 : second + 46] = struct.pack("<I", 0)
    content[second + 10 : second + 28] = content[first + 10 : first + 28]
    path.write_bytes(bytes(content))


def with_header(make: Maker, offset: int, value: int) -> Maker:
    """Make a zip and set a byte of the headers of all its members, at an offset of the local header."""

    def make_changed(path: Path) -> None:
        make(path)
        content = bytearray(path.read_bytes())
        for mark, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
            start = content.find(mark)
            while start >= 0:
                content[start + shift + offset] = value
                start = content.find(mark, start + 1)
        path.write_bytes(bytes(content))

    return make_changed


def declaring(size: int) -> Maker:
    """Make a tar whose extended header declares a size, with zeros compressed to almost nothing."""

    def make(path: Path) -> None:
        info = tarfile.TarInfo("pax")
        info.type, info.size = tarfile.XHDTYPE, size
        with gzip.open(path, "wb", compresslevel=9) as archive:
            archive.write(info.tobuf(tarfile.GNU_FORMAT))
            for _ in range(size >> 20):
                archive.write(bytes(1 << 20))

    return make


FILE, FOLDER, SYMLINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
GOOD = ("repo/readme.md", FILE, b"x", "")

HOSTILE: dict[str, tuple[Maker, str]] = {
    "zip: above": (zipped(("../evil", b"x")), OUTSIDE),
    "zip: above, later": (zipped(("a/b/../../../evil", b"x")), OUTSIDE),
    "zip: absolute": (zipped(("/etc/evil", b"x")), OUTSIDE),
    "zip: folder above": (zipped(("../evil/", b"")), OUTSIDE),
    "zip: link to an absolute path": (zipped(link("a", "/etc/passwd")), LINK),
    "zip: link above": (zipped(link("d/a", "../../x")), LINK),
    "zip: link through a link": (zipped(link("d/x", ".."), link("y", "d/x/../..")), LINK),
    "zip: link above the folder of all": (zipped(("r/a", b"x"), link("r/b", "../b")), LINK),
    "zip: file in a link": (zipped(link("a", "b"), ("b/c", b"x"), ("a/evil", b"x")), TWICE),
    "zip: file over a link": (zipped(link("a", "b"), ("a", b"x")), TWICE),
    "zip: link over a file": (zipped(("a", b"x"), link("a", "b")), TWICE),
    "zip: link over a folder": (zipped(("a/b", b"x"), link("a", "c")), TWICE),
    "zip: link twice": (zipped(link("a", "b"), link("a", "c")), TWICE),
    "zip: device": (zipped((of_mode("null", stat.S_IFCHR | 0o666), b"")), SPECIAL),
    "zip: pipe": (zipped((of_mode("pipe", stat.S_IFIFO | 0o666), b"")), SPECIAL),
    "zip: name twice": (zipped(("a", b"x"), ("a", b"y")), TWICE),
    "zip: name twice by dots": (zipped(("a", b"x"), ("./a", b"y")), TWICE),
    "zip: file as folder": (zipped(("a", b"x"), ("a/b", b"y")), TWICE),
    "zip: NUL in a name": (patched(zipped(("a_b", b"x")), b"a_b", b"a\0b"), UNREADABLE),
    "zip: newline in a name": (zipped(("a\nb", b"x")), UNREADABLE),
    "zip: not the UTF-8 that it says": (patched(zipped(("ä", b"x")), "ä".encode(), b"\xff\xff"), DAMAGED),
    "zip: encrypted": (with_header(zipped(("secret.txt", b"x")), 6, 1), "is encrypted"),
    "zip: unknown compression": (
        with_header(zipped(("a", b"x")), 8, 99),
        "packed in a way that this binder cannot read",
    ),
    "zip: cut": (patched(zipped(("a", bytes(4096))), b"PK\x03\x04", b"PK\x03\x05"), DAMAGED),
    "zip: other content": (patched(zipped((of_mode("a", 0o644), b"seawater")), b"seawater", b"seaWater"), DAMAGED),
    "zip: bomb": (zipped(("zeros", bytes(2 << 20))), "unpacks to more than 100 times its size"),
    "zip: overlapping bomb": (overlapping, DAMAGED),
    "zip: too many": (zipped(*((f"{number}", b"") for number in range(60))), "more than 50 files"),
    "zip: too many folders": (zipped(*((f"{number}/a", b"") for number in range(30))), "more than 50 files"),
    "zip: long name": (zipped(("x" * 256, b"x")), TOO_LONG),
    "zip: long path": (zipped(("/".join(["x" * 100] * 11), b"x")), TOO_LONG),
    "zip: deep": (zipped(("a/" * 32 + "b", b"x")), TOO_LONG),
    "tar: above": (tarred(("../evil", FILE, b"x", "")), OUTSIDE),
    "tar: absolute": (tarred(("/etc/evil", FILE, b"x", "")), OUTSIDE),
    "tar: link out": (tarred(("a", SYMLINK, b"", "/etc/passwd")), LINK),
    "tar: file through a link": (tarred(("a", SYMLINK, b"", "/tmp"), ("a/evil", FILE, b"x", "")), TWICE),
    "tar: hard link out": (tarred(("a", HARD, b"", "/etc/passwd")), OUTSIDE),
    "tar: hard link to a link": (tarred(("a", SYMLINK, b"", "b"), ("c", HARD, b"", "a")), "that it does not have"),
    "tar: device": (tarred(("a", tarfile.CHRTYPE, b"", "")), SPECIAL),
    "tar: pipe": (tarred(("a", tarfile.FIFOTYPE, b"", "")), SPECIAL),
    "tar: name twice": (tarred(("a", FILE, b"x", ""), ("a", FILE, b"y", "")), TWICE),
    "tar: bytes in a name": (tarred(("a\udcff", FILE, b"x", "")), UNREADABLE),
    "tar: bomb": (tarred(("zeros", FILE, bytes(2 << 20), "")), "unpacks to more than 100 times its size"),
    "tar: cut": (cut(tarred(GOOD, ("noise", FILE, bytes(range(256)) * 99, ""))), DAMAGED),
}
