"""What a repository's own files do in its session, server and workers alike: modules, paths, what postBuild left."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest

from tests.stack.kernel import Kernel
from tests.stack.local import LocalStack, Session
from tests.stack.repository import repository

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

SHADOWS = ("random", "signal", "socket")
"""Modules of the standard library that Jupyter, Dask and multiprocessing import."""
WHEEL = """
import sys, zipfile
name, folder = sys.argv[1], f"{sys.argv[1]}-1.0.dist-info"
with zipfile.ZipFile(f"{name}-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr(f"{name}.py", "def main():\\n    print('hello')\\n")
    wheel.writestr(f"{folder}/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
    wheel.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr(f"{folder}/entry_points.txt", f"[console_scripts]\\n{name} = {name}:main\\n")
    wheel.writestr(f"{folder}/RECORD", "")
"""
POST_BUILD = """\
set -e
cd data
python -m ipykernel install --user --name ocean --display-name Ocean
mkdir -p ~/nltk_data ~/.config/dask ~/.jupyter ~/.local/bin
echo corpus > ~/nltk_data/corpus.txt
ln -s ~/nltk_data ~/texts
echo 'distributed: {scheduler: {worker-ttl: 77s}}' > ~/.config/dask/ocean.yaml
echo '{"ServerApp": {"quit_button": false}}' > ~/.jupyter/jupyter_server_config.json
printf '#!/bin/sh\\necho own program\\n' > ~/.local/bin/own && chmod +x ~/.local/bin/own
git config --global user.name Ada
python wheel.py built
python wheel.py used
pip install --user --no-deps --no-index ./built-1.0-py3-none-any.whl
"""
FILES = {
    **{f"{name}.py": f"raise SystemExit('the repository has its own {name}')\n" for name in SHADOWS},
    "requirements.txt": "",
    "sea.ipynb": '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
    "heat.py": "def scaled(x):\n    return x * 10\n",
    "data/ocean.txt": "18\n",
    "data/wheel.py": WHEEL,
    "postBuild": POST_BUILD,
}
CLUSTER = """
import os
from dask_gateway import Gateway
cluster = Gateway().connect(os.environ["DASK_GATEWAY_CLUSTER"])
client = cluster.get_client()
client.wait_for_workers(1, timeout=120)
"""


@pytest.fixture(scope="module")
def session(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Session:
    return stack.launch(repository(tmp_path_factory.mktemp("repository"), FILES))


@pytest.fixture(scope="module")
def kernel(session: Session) -> Iterator[Kernel]:
    with Kernel(session) as running:
        yield running


@pytest.fixture(scope="module")
def client(kernel: Kernel) -> Kernel:
    """The kernel, in which `client` is one of the session's cluster."""
    kernel.value(CLUSTER, seconds=180)
    return kernel


def test_a_module_named_like_a_standard_one_does_not_stop_the_server(kernel: Kernel) -> None:
    assert kernel.value("import heat, random; print(heat.scaled(4), random.__file__ != 'random.py')") == "40 True"


def test_the_home_of_post_build_is_that_of_the_session(session: Session, kernel: Kernel) -> None:
    code = (
        "import os, pathlib, subprocess\n"
        "home = pathlib.Path.home()\n"
        "name = subprocess.run(['git', 'config', 'user.name'], capture_output=True, text=True).stdout.strip()\n"
        "print(name, (home / 'texts/corpus.txt').read_text().strip(), (home / 'texts').resolve() == home / 'nltk_data')"
    )
    assert kernel.value(code) == "Ada corpus True"
    assert kernel.value("!own") == "own program"
    assert "ocean" in session.request("api/kernelspecs").json["kernelspecs"]


def test_the_classic_interface_and_the_base_of_other_binders_are_there(session: Session, kernel: Kernel) -> None:
    pages = ("tree", "tree/data", "notebooks/sea.ipynb", "lab/tree/sea.ipynb", "git-pull?repo=https://example.org/x")
    assert {page: session.request(page).status for page in pages} == dict.fromkeys(pages, 200)
    assert session.request("api/metrics/v1").json["rss"] > 0
    assert kernel.value("import ipywidgets; print(ipywidgets.IntSlider(3).value)") == "3"


def test_a_link_of_nbgitpuller_pulls_its_repository(session: Session) -> None:
    query = urlencode({"repo": session.event["repo_url"], "branch": "main", "targetpath": "pulled"})
    pulled = session.request(f"git-pull/api?{query}")
    assert pulled.status == 200 and b'"phase": "finished"' in pulled.body, pulled.body[-2000:]
    assert session.request("lab/tree/pulled/sea.ipynb").status == 200
    assert session.request("api/contents/pulled/heat.py").json["content"] == FILES["heat.py"]


def test_a_session_knows_its_link_as_in_binderhub(stack: LocalStack, session: Session, kernel: Kernel) -> None:
    repo, names = session.event["repo_url"], ("LAUNCH_HOST", "REQUEST", "PERSISTENT_REQUEST", "REF_URL")
    known = [session.event[f"binder_{name.lower()}"] for name in names]
    request = f"v2/git/{quote(repo, safe='')}"
    assert known == [stack.url, f"{request}/HEAD", f"{request}/{session.event['commit']}", repo]
    assert kernel.value(f"print([os.environ[f'BINDER_{{name}}'] for name in {names}])") == str(known)
    repo2docker = "print(os.environ['REPO_DIR'] == str(home), os.environ['NB_USER'])"
    assert kernel.value(repo2docker) == "True jovyan"
    assert kernel.value("!$NB_PYTHON_PREFIX/bin/python -c 'import sys; print(sys.prefix)'") == kernel.value(
        "import sys; print(sys.prefix)"
    )


def test_dask_reads_the_settings_that_post_build_left(client: Kernel) -> None:
    code = "lambda dask_scheduler: __import__('dask').config.get('distributed.scheduler.worker-ttl')"
    assert client.value(f"print(client.run_on_scheduler({code}))") == "77s"


def test_packages_of_the_user_are_installed(session: Session, kernel: Kernel) -> None:
    """Those of postBuild in the environment, those of a notebook in the session alone."""
    assert kernel.value("import built; built.main()\n!built") == "hello\nhello"
    install = "!pip install --user --quiet --no-deps --no-index data/used-1.0-py3-none-any.whl && used"
    assert kernel.value(install) == "hello"
    assert kernel.value("import used; used.main()") == "hello"
    with Kernel(session, name="ocean") as own:
        assert own.value("import built, used; used.main()") == "hello"
    assert kernel.value("!pip uninstall --quiet --yes used; pip list | grep -c '^used '") == "0"


def test_workers_import_the_modules_of_the_repository(client: Kernel) -> None:
    assert client.value("print(client.submit(heat.scaled, 4).result())") == "40"


def test_workers_open_the_files_of_the_repository(client: Kernel) -> None:
    read = "import pathlib\nprint(client.submit(lambda: pathlib.Path('data/ocean.txt').read_text().strip()).result())"
    assert client.value(read) == "18"


def test_workers_of_a_cluster_that_the_user_makes_do_too(client: Kernel) -> None:
    code = (
        "client.close(); cluster.shutdown()\n"
        "cluster = Gateway().new_cluster(); cluster.scale(1)\n"
        "client = cluster.get_client()\n"
        "print(client.submit(heat.scaled, 5).result(timeout=120))"
    )
    assert client.value(code, seconds=240) == "50"
