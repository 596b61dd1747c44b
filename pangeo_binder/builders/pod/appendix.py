"""The last step of every image that repo2docker builds from other files than a Dockerfile. Pure.

It installs the session's needs and changes none of the installed versions. An image from a repository's own Dockerfile
gets no such step.
"""

from __future__ import annotations

import shlex
from typing import Final

from ..session_needs import BASE, NEEDS

SESSION_DIR: Final = "pangeo-binder-session"
"""The directory of the build's context that holds the session distribution's wheel."""

# Jupyter runs in repo2docker's own Python. repo2docker gives its prefix to scripts as NB_PYTHON_PREFIX
_INSTALL: Final = """\
cd {folder}
python="${{NB_PYTHON_PREFIX:+$NB_PYTHON_PREFIX/bin/}}python"
"$python" -m pip list --format=freeze | {{ grep -E '^[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*$' || true; }} > pins.txt
"$python" -m pip install --no-cache-dir --constraint pins.txt {needs} ./*.whl
{{ "$python" -m pip install --no-cache-dir --constraint pins.txt {base} || echo "These do not fit: {base}"; }}
rm -r {folder}
"""


def install_script(folder: str) -> str:
    """Return the shell commands that install the session's needs and the wheel in `folder`, then remove `folder`."""
    needs, base = (" ".join(shlex.quote(need) for need in needs) for needs in (NEEDS, BASE))
    return _INSTALL.format(folder=folder, needs=needs, base=base)


def appendix(user_id: int) -> str:
    """Return the lines to append to repo2docker's Dockerfile; they run as the image's user."""
    folder = f"/tmp/{SESSION_DIR}"  # noqa: S108 - in the image being made
    steps = " && \\\n    ".join(install_script(folder).strip().splitlines())
    return f"COPY --chown={user_id}:{user_id} {SESSION_DIR} {folder}\nRUN {steps}\n"
