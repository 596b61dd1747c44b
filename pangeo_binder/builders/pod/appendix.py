"""What every image gets that repo2docker builds without a Dockerfile of the repository's: the session's needs. Pure.

They come last and move none of the repository's pins. An image with a Dockerfile of its own gets nothing.
"""

from __future__ import annotations

import shlex
from typing import Final

from ..session_needs import NEEDS

SESSION_DIR: Final = "pangeo-binder-session"
"""Where the build's context holds the session distribution's wheel."""

# repo2docker's own Python, in which Jupyter runs: NB_PYTHON_PREFIX, as postBuild scripts know it
_INSTALL: Final = """\
cd {place}
python="${{NB_PYTHON_PREFIX:+$NB_PYTHON_PREFIX/bin/}}python"
"$python" -m pip list --format=freeze | {{ grep -E '^[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*$' || true; }} > pins.txt
"$python" -m pip install --no-cache-dir --constraint pins.txt {needs} ./*.whl
rm -r {place}
"""


def install_script(place: str) -> str:
    """Return the shell commands that install the session's needs and the wheel in the directory `place`."""
    return _INSTALL.format(place=place, needs=" ".join(shlex.quote(need) for need in NEEDS))


def appendix(user_id: int) -> str:
    """Return the lines at the end of a Dockerfile of repo2docker's, which run as the image's user."""
    place = f"/tmp/{SESSION_DIR}"  # noqa: S108 - in the image being made
    steps = " && \\\n    ".join(install_script(place).strip().splitlines())
    return f"COPY --chown={user_id}:{user_id} {SESSION_DIR} {place}\nRUN {steps}\n"
