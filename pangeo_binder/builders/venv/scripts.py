"""The repository's scripts, postBuild and start: whether they can run, found before minutes of installing.

Runs in the binder. As in repo2docker they need no executable bit; a file without a shebang is run by sh.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import BuildFailed

_BYTES = 1 << 20
"""How much of a script is searched for the ends of its lines."""
_PATH_BYTES = 4096
_TO_UNIX = "Save it with Unix line ends (LF): run `dos2unix {name}`, or set `{name} text eol=lf` in .gitattributes."


def check_scripts(checkout: Path, *names: str) -> None:
    """Raise BuildFailed if a script has Windows line ends, or names an interpreter that this machine lacks.

    `names` are paths in `checkout`; empty ones are skipped.
    """
    for name in filter(None, names):
        with (checkout / name).open("rb") as file:
            text = file.read(_BYTES)
        first, _, rest = text.partition(b"\n")
        words = first[2:].split(maxsplit=1) if first.startswith(b"#!") else []
        interpreter = words[0][:_PATH_BYTES] if words else b""
        # Python and others read Windows line ends; a shell takes the carriage return for a part of each last word
        is_shell = not interpreter or b"sh" in first
        if first.endswith(b"\r") or (is_shell and b"\r\n" in rest):
            raise BuildFailed(
                f"The repository's {name} has Windows line ends (CRLF), so it cannot run.", _TO_UNIX.format(name=name)
            )
        _check_interpreter(interpreter.decode(errors="replace"), name)


def _check_interpreter(path: str, name: str) -> None:
    if path.startswith("/") and "\0" not in path and not Path(path).exists():
        raise BuildFailed(
            f"The repository's {name} needs {path[:200]}, which this machine does not have.",
            "Use another interpreter in its first line, such as #!/bin/sh.",
        )


def make_executable(script: Path) -> Path:
    """Give a script its executable bits, as repo2docker does, and return it."""
    script.chmod(script.stat().st_mode | 0o111)
    return script
