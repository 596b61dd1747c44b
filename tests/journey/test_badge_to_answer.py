"""The journey of a user: a badge in a README, the launch page, JupyterLab, a computation, and the stop."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pangeo_binder.ticket import server_token
from tests.stack.browser import browser
from tests.stack.kernel import Kernel
from tests.stack.local import COMMAND, LocalStack, Session, until

pytestmark = [pytest.mark.browser, pytest.mark.stack, pytest.mark.timeout(900)]

NOTEBOOK = Path(__file__).parents[2] / "examples" / "ocean-heat" / "ocean_heat.ipynb"


def badge(stack: LocalStack) -> str:
    """Return the badge's HTML from the command line."""
    repo, urlpath = stack.example("ocean-heat"), "lab/tree/ocean_heat.ipynb"
    command = [COMMAND, "badge", repo, "--hub", stack.url, "--urlpath", urlpath, "--format", "html"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def entered(stack: LocalStack, screenshots: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """The address and title that a user sees after clicking the badge and waiting."""
    readme = tmp_path_factory.mktemp("readme") / "README.html"
    readme.write_text(f"<h1>Ocean heat</h1><p>{badge(stack)}</p>")
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.goto(stack.address)
        page.goto(readme.as_uri())
        page.screenshot(path=screenshots / "1-readme.png")
        page.click("a:has(img)")
        page.wait_for_selector("text=Ocean", timeout=10_000)
        page.wait_for_selector("#grant:visible", timeout=60_000)
        page.screenshot(path=screenshots / "2-launch.png")
        page.wait_for_url("**/lab/tree/ocean_heat.ipynb*", timeout=280_000)
        address = page.url
        page.wait_for_selector(".jp-Notebook", timeout=120_000)
        page.wait_for_selector('.jp-RenderedMarkdown:has-text("Twenty years of")', timeout=60_000)
        page.screenshot(path=screenshots / "3-lab.png")
        yield {"address": address, "title": page.title()}


@pytest.fixture(scope="module")
def session(stack: LocalStack, entered: dict) -> Session:
    """The session that the browser opened, for use through its API."""
    url = entered["address"].partition("lab/")[0]
    launch_id = url.rstrip("/").rpartition("-")[2]
    token = server_token(stack.values.secrets.ticket_keys[0], launch_id)
    return Session(stack, {"url": url, "launch_id": launch_id, "token": token})


@pytest.fixture(scope="module")
def kernel(session: Session) -> Iterator[Kernel]:
    with Kernel(session) as running:
        yield running


def test_the_address_holds_no_token(entered: dict, session: Session) -> None:
    assert "token" not in entered["address"]
    assert session.token not in entered["address"]


def test_the_cluster_is_attached_and_listed(kernel: Kernel) -> None:
    code = (
        "import os\nfrom dask_gateway import Gateway\ngateway = Gateway()\n"
        "listed = [report.name for report in gateway.list_clusters()]\n"
        "cluster = gateway.connect(os.environ['DASK_GATEWAY_CLUSTER'])\n"
        "print(listed == [cluster.name])"
    )
    assert kernel.value(code) == "True"


def test_the_dask_panel_attaches_to_the_same_cluster(session: Session) -> None:
    made = session.request("dask/clusters/0f4fe0a6-3f0a-4a57-9d4d-0d8f0a3f4d7b", "PUT")
    assert made.status == 200, made
    assert made.json["scheduler_address"].endswith(session.clusters()[0]["name"])
    assert len(session.clusters()) == 1


def test_the_notebook_finds_the_expected_numbers(kernel: Kernel, screenshots: Path) -> None:
    """Every cell runs on the session's own cluster and scratch, and the numbers match a calculation here."""
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    images: list[str] = []
    for cell in cells[:-1]:
        output = kernel.run("".join(cell["source"]), seconds=400)
        assert not output.error, output.error
        images += output.images
    result = json.loads(kernel.value("import json; print(json.dumps(result))"))
    assert result["months"] == 240
    assert result["trend_per_year"] == pytest.approx(0.018, abs=0.001)
    assert result["seasonal_range_45N"] == pytest.approx(2 * 6 * 0.7009, rel=0.02)
    assert (result["warmest_month_45N"], result["warmest_month_45S"]) == (7, 1)
    # the area-weighted mean of 28 cos² φ - 1 over a sphere is 28 · 2/3 - 1, plus half the warming
    assert result["mean"] == pytest.approx(28 * 2 / 3 - 1 + 0.018 * 10, abs=0.02)
    _save(images, screenshots / "4-plot.png")


def _save(images: list[str], path: Path) -> None:
    import base64

    assert images, "the notebook showed no plot"
    path.write_bytes(base64.b64decode(images[-1]))


def test_workers_run_the_sessions_own_environment(kernel: Kernel) -> None:
    code = (
        "import sys\n"
        "def where():\n    import sys, os\n    return sys.executable, os.environ['SCRATCH_BUCKET']\n"
        "found = set(client.run(where).values())\n"
        "print(found == {(sys.executable, os.environ['SCRATCH_BUCKET'])}, len(client.run(where)) >= 1)"
    )
    assert kernel.value(code) == "True True"


@pytest.mark.parametrize("place", ["session", "worker"])
def test_writing_outside_the_prefix_is_refused(kernel: Kernel, place: str) -> None:
    code = (
        "def write(url):\n"
        "    import s3fs\n"
        "    fs = s3fs.S3FileSystem(skip_instance_cache=True)\n"
        "    try:\n        fs.pipe(url, b'x')\n        return 'written'\n"
        "    except PermissionError:\n        return 'refused'\n"
        "own = os.environ['SCRATCH_BUCKET'] + '/mine'\n"
        "outside = ['s3://scratch/other', 's3://scratch/zzzzzzzzzzzz/x', os.environ['SCRATCH_BUCKET'] + 'x/y']\n"
        f"run = (lambda url: client.submit(write, url, pure=False).result()) if {place == 'worker'} else write\n"
        "print(run(own), [run(url) for url in outside])"
    )
    assert kernel.value(code) == "written ['refused', 'refused', 'refused']"


def test_another_launchs_prefix_cannot_be_read(stack: LocalStack, kernel: Kernel, minimal: Session) -> None:
    """The other launch has an object there and can read it, so the refusal depends on the reader."""
    with Kernel(minimal) as other:
        put = "import os, s3fs\nfs, url = s3fs.S3FileSystem(), os.environ['SCRATCH_BUCKET'] + '/secret'\n"
        url = other.value(put + "fs.pipe(url, b'mine')\nprint(url if fs.cat(url) == b'mine' else '')")
    code = (
        "import s3fs\n"
        "fs = s3fs.S3FileSystem(skip_instance_cache=True)\n"
        "def refused(act):\n    try:\n        act()\n"
        "    except PermissionError:\n        return True\n    return False\n"
        f"print(refused(lambda: fs.cat({url!r})), refused(lambda: fs.ls({url.rsplit('/', 1)[0]!r})))"
    )
    assert kernel.value(code) == "True True"


def test_scaling_beyond_the_grant_is_capped_with_a_message(kernel: Kernel) -> None:
    code = (
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n    cluster.scale(1000)\n"
        "print(caught[0].message)\ncluster.scale(1)"
    )
    assert "would exceed resource limit of" in kernel.value(code)


def test_a_second_cluster_is_refused_with_a_message_while_the_first_computes(kernel: Kernel) -> None:
    output = kernel.run("import time\nbusy = client.submit(time.sleep, 20)\ntime.sleep(1)\ngateway.new_cluster()")
    assert "This launch may have 1 Dask cluster at a time and has 1." in output.error


def test_after_the_stop_nothing_is_left(stack: LocalStack, session: Session, kernel: Kernel) -> None:
    """No processes, no cluster, no valid credentials; the test uses the credentials instead of looking them up."""
    import boto3
    from botocore.exceptions import ClientError

    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL")
    key, secret, token, endpoint = (session.environment()[name] for name in names)
    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
    )
    assert s3.list_objects_v2(Bucket="scratch", Prefix=f"{session.id}/")["KeyCount"] > 0
    session.stop()
    with pytest.raises(ClientError) as refused:
        s3.list_objects_v2(Bucket="scratch", Prefix=f"{session.id}/")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    until("its home is gone", lambda: not (stack.state_dir / "homes" / session.id).exists())
    assert (stack.state_dir / "storage" / "objects" / session.id).exists(), "scratch is kept for its days"
