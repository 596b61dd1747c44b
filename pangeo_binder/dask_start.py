"""The commands that start a launch's Dask schedulers and workers, for all backends and the operator. Pure.

Launched code imports the repository's modules there as in a notebook. Dask itself must not: `python -m` puts the
working folder first on `sys.path`, so that the repository's `random.py` would take the place of the standard library's.
"""

from __future__ import annotations

from typing import Final

# `python -P` exists since Python 3.11 only, and an image from a Dockerfile of the repository's holds no code of ours.
# The first path of `python -c` is empty: the working folder. repo2docker's images set REPO_DIR
_START: Final = """\
import sys
sys.path[:] = [path for path in sys.path if path]
import os, runpy
folder = os.environ.get("REPO_DIR") or os.getcwd()
sys.path.append(folder)
{steps}runpy.run_module("{module}", run_name="__main__", alter_sys=True)
"""

# a worker's nanny starts it with `python -c` again, so the nanny itself must not be in the repository's folder. The
# worker gets the nanny's paths and configuration; a preload may be the text of a script, recognized by its space
_WORKER_STEPS: Final = """\
import dask, tempfile
if os.path.realpath(os.getcwd()) == os.path.realpath(folder):
    os.chdir(tempfile.mkdtemp())
own = dask.config.get("distributed.worker.preload", None) or []
enter = "import os; os.chdir({!r})".format(folder)
dask.config.set({"distributed.worker.preload": [*([own] if isinstance(own, str) else own), enter, *more]})
"""


def scheduler_command(python: str) -> list[str]:
    """Return the command of a scheduler; append its options."""
    return _command(python, "distributed.cli.dask_scheduler", "")


def worker_command(python: str, *preloads: str) -> list[str]:
    """Return the command of a worker, whose working folder is the repository's; append its options.

    `preloads` are modules to load in the worker. The option `--preload` would replace those of the user's settings.
    """
    return _command(python, "distributed.cli.dask_worker", f"more = {list(preloads)!r}\n{_WORKER_STEPS}")


def _command(python: str, module: str, steps: str) -> list[str]:
    # distributed 2026.6 removed the scripts dask-scheduler and dask-worker; every version has the modules
    return [python, "-c", _START.format(steps=steps, module=module)]
