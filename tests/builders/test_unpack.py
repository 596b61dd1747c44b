"""What an archive may unpack to: hostile archives are refused with a sentence, and nothing is left of them."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from pangeo_binder.builders.contents import ArchiveLimits
from pangeo_binder.builders.unpack import NOT_AN_ARCHIVE, REFUSED, arguments, main
from pangeo_binder.errors import UserError, refusal_from
from tests.builders.hostile import (
    FILE,
    FOLDER,
    HARD,
    HOSTILE,
    SYMLINK,
    Maker,
    link,
    of_mode,
    tarred,
    with_header,
    zipped,
)

LIMITS = ArchiveLimits(files=50, total_bytes=4 << 20, ratio_free_bytes=1 << 20)


class Case:
    """One archive in a folder of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.into = folder / "checkout"
        self._folder = folder
        self._capsys = capsys

    def unpack(self, make: Maker, limits: ArchiveLimits = LIMITS) -> int:
        """Unpack what `make` makes and return the exit code."""
        archive = self._folder / "archive"
        make(archive)
        code = main(arguments(limits, archive, self._folder / "staging", self.into)[4:])
        archive.unlink()
        return code

    def refusal(self, make: Maker, limits: ArchiveLimits = LIMITS) -> UserError:
        """Return the error with which an archive is refused; nothing is left."""
        assert self.unpack(make, limits) == REFUSED
        assert list(self._folder.iterdir()) == []
        found = refusal_from(self._capsys.readouterr().out)
        assert found is not None
        return found

    def files(self) -> dict[str, str]:
        """Return the text of each file that was unpacked, and the targets of links."""
        found = (each for each in self.into.rglob("*") if each.is_symlink() or not each.is_dir())
        return {
            str(each.relative_to(self.into)): f"-> {each.readlink()}" if each.is_symlink() else each.read_text()
            for each in found
        }


@pytest.fixture
def case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Case:
    folder = tmp_path / "archives"
    folder.mkdir()
    return Case(folder, capsys)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_left(case: Case, name: str) -> None:
    make, sentence = HOSTILE[name]
    error = case.refusal(make)
    assert sentence in error.message and error.message.endswith((".", "`")) and "\n" not in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (ArchiveLimits(total_bytes=99), "The files of this record have more than 99 bytes together."),
        (ArchiveLimits(file_bytes=59), "A file of this record has more than 59 bytes."),
    ],
)
def test_an_archive_above_the_limits_of_size_is_refused(case: Case, limits: ArchiveLimits, sentence: str) -> None:
    error = case.refusal(zipped(("a", b"x" * 60), ("b", b"y" * 60)), limits)
    assert (error.reason, error.message) == ("repo_too_large", sentence)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_unpacked_without_the_folder_that_holds_all_of_it(case: Case, mode: str) -> None:
    members = (
        ("repo-1.0", FOLDER, b"", ""),
        ("repo-1.0/readme.md", FILE, b"sea", ""),
        ("repo-1.0/data/repo-1.0", FILE, b"deep", ""),
        ("repo-1.0/data/latest", SYMLINK, b"", "../readme.md"),
        ("repo-1.0/again", HARD, b"", "repo-1.0/readme.md"),
    )
    assert case.unpack(tarred(*members, mode=mode)) == 0
    links = {"data/latest": "-> ../readme.md"}
    assert case.files() == {"readme.md": "sea", "data/repo-1.0": "deep", "again": "sea", **links}


def test_a_zip_keeps_scripts_executable_and_nothing_else_of_modes(case: Case) -> None:
    members = ((of_mode("run", 0o104777), b"#!/bin/sh"), (of_mode("data", 0o104600), b"x"), ("plain", b"y"))
    assert case.unpack(zipped(*members)) == 0
    umask = os.umask(0)
    os.umask(umask)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in case.into.iterdir()}
    assert modes == {"run": 0o755 & ~umask, "data": 0o644 & ~umask, "plain": 0o644 & ~umask}


def test_a_zip_of_github_is_unpacked_with_its_links(case: Case) -> None:
    members = (("org-repo-abc/", b""), ("org-repo-abc/a/notebook.ipynb", b"{}"), link("org-repo-abc/first", "a"))
    assert case.unpack(zipped(*members)) == 0
    assert case.files() == {"a/notebook.ipynb": "{}", "first": "-> a"}


def test_a_zip_of_macos_has_one_folder(case: Case) -> None:
    assert case.unpack(zipped(("repo/a", b"x"), ("__MACOSX/repo/._a", b"y"))) == 0
    assert case.files() == {"a": "x"}


def test_several_folders_stay_as_they_are(case: Case) -> None:
    assert case.unpack(zipped(("a/x", b"1"), ("b/y", b"2"))) == 0
    assert case.files() == {"a/x": "1", "b/y": "2"}


@pytest.mark.parametrize("flag", [True, False])
def test_names_are_read_as_utf8_also_without_the_flag_for_it(case: Case, flag: bool) -> None:
    make = zipped(("Nordsee-ä", b"x"), ("b", b"y"))
    assert case.unpack(make if flag else with_header(make, 7, 0)) == 0
    assert case.files() == {"Nordsee-ä": "x", "b": "y"}


def test_names_that_differ_in_case_are_two_files_or_refused(case: Case) -> None:
    if case.unpack(zipped(("Makefile", b"x"), ("makefile", b"y"))) == 0:
        assert case.files() == {"Makefile": "x", "makefile": "y"}
    else:  # a file system that does not tell them apart
        assert not case.into.exists()


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"PK not a zip", bytes(2048)])
def test_a_file_that_is_no_archive_stays(case: Case, content: bytes) -> None:
    assert case.unpack(lambda path: path.write_bytes(content) and None) == NOT_AN_ARCHIVE
    assert not case.into.exists()


def test_an_archive_in_an_archive_stays_packed(case: Case, tmp_path: Path) -> None:
    inner = tmp_path / "inner.zip"
    zipped(("../evil", b"x"))(inner)
    assert case.unpack(tarred(("a", FILE, b"x", ""), ("inner.zip", FILE, inner.read_bytes(), ""), mode="w")) == 0
    assert zipfile.is_zipfile(case.into / "inner.zip")
