"""Test how requirements files are read: pip's encodings, includes and options, what is refused, by file and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pangeo_binder.builders.venv.explain import explain
from pangeo_binder.builders.venv.requirements import Requirements, read_requirements
from pangeo_binder.errors import BuildFailed

Read = Callable[..., Requirements]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write files into a repository and read its requirements."""

    def reader(content: str | bytes, **more: str) -> Requirements:
        (tmp_path / "requirements.txt").write_bytes(content.encode() if isinstance(content, str) else content)
        for name, text in more.items():
            path = tmp_path / name.replace("__", "/").replace("_txt", ".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return read_requirements(tmp_path, "requirements.txt", {"HOME"})

    return reader


def texts(found: Requirements) -> list[str]:
    return [line.text for line in found.lines]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_the_encodings_that_pip_reads(read: Read, encoding: str) -> None:
    found = read("# für die Übung\r\ntoolz==0.12.0  # ü\r\nnumpy\r\n".encode(encoding))
    assert (texts(found), found.notes) == (["toolz==0.12.0", "numpy"], [])


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_utf_16_of_either_byte_order(read: Read, mark: bytes) -> None:
    encoding = "utf-16-le" if mark == b"\xff\xfe" else "utf-16-be"
    assert texts(read(mark + "toolz\r\n".encode(encoding))) == ["toolz"]


@pytest.mark.parametrize("comment", [b"# -*- coding: latin-1 -*-\n", b"\n# vim: set fileencoding=cp1252 :\n"])
def test_an_encoding_that_a_comment_names(read: Read, comment: bytes) -> None:
    found = read(comment + b"toolz  # f\xfcr\n")
    assert (texts(found), found.notes) == (["toolz"], [])


def test_comments_in_another_encoding_are_read_with_a_note(read: Read) -> None:
    found = read(b"toolz==0.12.0  # f\xfcr die \x85bung\nnumpy\n")
    assert texts(found) == ["toolz==0.12.0", "numpy"]
    assert found.notes == ["requirements.txt is not in UTF-8; its comments are read as Latin-1"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"toolz\n./f\xfcr\n", "requirements.txt, line 2: the text is not in UTF-8."),
        (b"# coding: klingon\ntoolz\n", "requirements.txt cannot be read in its encoding, `klingon`."),
        (b"# coding: rot13\ntoolz\n", "requirements.txt cannot be read in its encoding, `rot13`."),
        (b"# coding: punycode\ntoolz\n", "requirements.txt cannot be read in its encoding, `punycode`."),
        (b"\xff\xfe\x00", "requirements.txt cannot be read in its encoding, `utf-16-le`."),
    ],
)
def test_text_in_an_unknown_encoding_is_refused(read: Read, content: bytes, sentence: str) -> None:
    with pytest.raises(BuildFailed) as caught:
        read(content)
    assert caught.value.message == sentence and "coding: latin-1" in caught.value.hint


def test_lines_are_joined_and_comments_removed_as_by_pip(read: Read) -> None:
    found = read("# a \\\ntoolz \\\n  ==0.12.0 \\\n # more\nnumpy#egg  # c\n\n  pandas \\\n")
    assert [(line.number, line.text) for line in found.lines] == [
        (2, "toolz   ==0.12.0"),
        (5, "numpy#egg"),
        (7, "pandas"),
    ]


def test_included_files_keep_their_places(read: Read) -> None:
    found = read(
        "-r more/a.txt\ntoolz\n-cmore/c.txt\n",
        more__a_txt="numpy\n-r b.txt\n",
        more__b_txt="\npandas\n-r a.txt\n",
        more__c_txt="dask==2024.1.0\n",
    )
    assert [line.where for line in found.lines] == [
        "more/a.txt, line 1",
        "more/b.txt, line 2",
        "requirements.txt, line 2",
    ]
    assert [line.text for line in found.constraints] == ["dask==2024.1.0"]
    error = found.explain(["No solution found: Because pandas was not found in the package registry"])
    assert error.hint == "See more/b.txt, line 2. Check its spelling."


def test_options_reach_uv_in_the_form_that_it_reads(read: Read, tmp_path: Path) -> None:
    (tmp_path / "my wheels").mkdir()
    index, other = (f"https://{place}/files" for place in ("a.example", "user:s3cret@b.example"))
    found = read(
        f"-i {index} --extra-index-url={other}\n--find-links 'my wheels'\n-f {index}/x\n--no-binary toolz,numpy\n"
        "--trusted-host a.example\n--prefer-binary\ntoolz\n"
    )
    assert texts(found) == [
        f"--index-url {index}",
        f"--extra-index-url {other}",
        f"--find-links {tmp_path.as_uri()}/my%20wheels",
        f"--find-links {index}/x",
        "--no-binary toolz",
        "--no-binary numpy",
        "toolz",
    ]
    assert found.write(tmp_path)[-2:] == ("--index-strategy", "unsafe-best-match")
    assert found.indexes == {"a.example": "requirements.txt", "b.example": "requirements.txt"}
    assert len(found.notes) == 2 and not found.apart


@pytest.mark.parametrize(
    ("content", "apart"),
    [
        ("toolz==1 --hash=sha256:aa\n", True),
        ("toolz==1 --hash=sha256:aa\nnumpy\n", False),
        ("--require-hashes\ntoolz==1 \\\n  --hash=sha256:aa \\\n  --hash=sha256:bb\n", True),
        ("--pre\ntoolz\n", True),
        ("--pre\n-e .\n", True),
        ("--no-index\n-f https://a.example\ntoolz\n", True),
        ("--no-binary :all:\ntoolz\n", True),
        ("--no-binary toolz\ntoolz\n", False),
        ("--pre\n", False),
    ],
)
def test_what_must_not_apply_to_the_sessions_needs_is_installed_apart(read: Read, content: str, apart: bool) -> None:
    assert read(content).apart is apart


def test_editable_git_repositories_are_installed_plainly(read: Read) -> None:
    address = "git+https://example.org/a/b.git@v1#egg=lib&subdirectory=x"
    found = read(f"-e {address}\n--editable={address}\n-e lib @ git+https://example.org/a/b.git\n-e .\n")
    assert texts(found) == [address, address, "lib @ git+https://example.org/a/b.git", "-e ."]
    assert len(found.notes) == 3


@pytest.mark.parametrize(
    ("line", "problem", "instead"),
    [
        ("certifi @ file:///croot/certifi_170/built/certifi", "of its author's machine", "Write certifi==<version>"),
        ("certifi @ file:///C:/Users/me/c.whl", "of its author's machine", "Write certifi==<version>"),
        ("C:\\Users\\me\\toolz.whl", "of its author's machine", "==<version>"),
        ("/home/nobody-at-all/toolz", "of its author's machine", "==<version>"),
        ("-e /home/nobody-at-all/toolz", "of its author's machine", "==<version>"),
        ("-e git+file:///home/nobody-at-all/lib@v1#egg=lib", "of its author's machine", "==<version>"),
        ("lib @ git+file:///home/nobody-at-all/lib", "of its author's machine", "Write lib==<version>"),
        ("-e svn+https://example.org/x#egg=x", "needs svn, and only git", "Use a release"),
        ("git://example.org/a/b.git", "an address that pip does not read", "git+https://example.org/a/b.git"),
        ("toolz @ https://${TOKEN}@example.org/x.whl", "needs the variable TOKEN", "public address"),
        ("--extra-index-url https://${TOKEN}@example.org/", "needs the variable TOKEN", "public address"),
        ("toolz=0.12.0=pyhd_0", "is written as for conda", "Write toolz==0.12.0"),
        ("numpy=1.26", "is written as for conda", "Write numpy==1.26"),
        ("@EXPLICIT", "is of a list for conda", "pip list --format=freeze"),
        ("pip install toolz", "is a command", "only the packages"),
        ("!pip install toolz", "is a command", "only the packages"),
        ("toolz==0.12.0 --install-option=x", "has the option --install-option", "Remove the option"),
        ("toolz==0.12.0 --config-settings='a=b'", "has the option --config-settings", "Remove the option"),
        ("--no-deps", "is not an option that pip takes", "Remove the line"),
        ("-U", "is not an option that pip takes", "Remove the line"),
        ("toolz" + " " * 40_000 + "==1", "is longer than this binder reads", "Shorten"),
    ],
)
def test_a_refusal_names_the_line_and_what_to_write_instead(read: Read, line: str, problem: str, instead: str) -> None:
    with pytest.raises(BuildFailed) as caught:
        read("numpy\n\n-r sub.txt\n", sub_txt=f"# one\n{line}\n")
    assert caught.value.message.startswith("sub.txt, line 2: `") and problem in caught.value.message
    assert instead in caught.value.hint and "\n" not in caught.value.message and len(caught.value.message) < 300


def test_no_password_is_shown(read: Read) -> None:
    with pytest.raises(BuildFailed) as caught:
        read("toolz @ svn+https://me:s3cret@example.org/x\n")
    assert "s3cret" not in str(caught.value)


def test_a_line_for_another_machine_is_left_to_uv(read: Read) -> None:
    line = 'pywin32 @ file:///C:/Users/me/p.whl ; sys_platform == "win32"'
    assert texts(read(f"{line}\n")) == [line]


ABSENT = ("-r nope.txt", "-c nope.txt", "-r /etc/hostname", "-r ../other.txt", "-r link.txt", "-r .", "-f nope")


@pytest.mark.parametrize("line", [*ABSENT, "-e ./nope", "./nope.whl", "-e ../other"])
def test_a_file_that_is_not_in_the_repository_is_named(read: Read, tmp_path: Path, line: str) -> None:
    (tmp_path.parent / "other.txt").touch()
    (tmp_path / "link.txt").symlink_to("/etc/hostname")
    with pytest.raises(BuildFailed, match=r"name the file .*, which is not in the repository") as caught:
        read(f"toolz\n{line}\n")
    assert caught.value.hint.startswith("It is named in requirements.txt, line 2.")


def test_files_are_read_only_up_to_a_bound(read: Read) -> None:
    with pytest.raises(BuildFailed, match="more than this binder reads"):
        read("# \n" * 400_000)
    with pytest.raises(BuildFailed, match="more than this binder reads"):
        read("a\n" * 20_001)
    files = {f"f{number}_txt": f"-r f{number + 1}.txt\n" for number in range(60)}
    with pytest.raises(BuildFailed, match="more than this binder reads"):
        read("-r f0.txt\n", **files)


@pytest.mark.parametrize("line", ["toolz==", "toolz>=0.11.*", "!foo", "not a requirement", "a; " + "(" * 5000])
def test_an_invalid_line_is_shown(read: Read, line: str) -> None:
    found = read(f"numpy\n{line}\n")
    error = found.explain(["error: Couldn't parse requirement in `/home/requirements.txt` at position 6"])
    assert error.message == "requirements.txt has a line that is not a valid requirement."
    assert error.hint.startswith(f"It is line 2: `{line[:50]}")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            "No solution found: you require pywin32==306. hint: Wheels are available for `pywin32` (v306) on the"
            " following platforms: `win32`, `win_amd64`, `win_arm64`",
            "The package `pywin32` exists only for Windows.",
        ),
        (
            "unsatisfiable hint: Wheels are available for `x` (v1) on the following platforms: `macosx_10_9_arm64`",
            "The package `x` exists only for macOS.",
        ),
        ("error: Failed to build `pywinpty==2.0.12`", "The package `pywinpty==2.0.12` exists only for Windows."),
        ("error: Failed to build `netcdf4==1.6`", "The package `netcdf4==1.6` could not be built."),
        (
            "Hash-checking is required, but no trusted hash was provided for: `locket`",
            "The requirements have hashes, but not for `locket`.",
        ),
        (
            "In `--require-hashes` mode, all requirements must have their versions pinned with `==`, but found: pip",
            "The requirements have hashes, but not for `pip`.",
        ),
        (
            "error: Failed to download `toolz==0.12.0` cause: Hash mismatch for `toolz==0.12.0` Expected: sha256:7a",
            "The hash of `toolz==0.12.0` is not that of the package index's file.",
        ),
    ],
)
def test_uvs_errors_of_pips_dialect(output: str, message: str) -> None:
    assert explain([output]).message == message
