"""A repository may ask for less, never for more; its file comes from strangers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangeo_binder.model import DaskGrant, Grant, RepoRef, ServerGrant, StorageGrant
from pangeo_binder.policy.match import Question
from pangeo_binder.policy.model import Policy
from pangeo_binder.policy.request import MAX_BYTES, RequestInvalid, find_request, narrow, read_request
from tests.policy.conftest import admit

GIB = 2**30


@pytest.fixture
def grant(policy: Policy) -> Grant:
    """What the pangeo tier grants."""
    return admit(policy, Question(RepoRef("git", "https://github.com/pangeo-gallery/x", "HEAD")), ())


def test_without_a_wish_the_grant_stays(grant: Grant, tmp_path: Path) -> None:
    assert narrow(grant, find_request(tmp_path)) == grant
    assert narrow(grant, read_request(b"{}")) == grant


@pytest.mark.parametrize("folder", ["binder", ".binder"])
def test_less_is_granted(grant: Grant, tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    asked = "server: {cpu: 1, memory: 2G}\ndask: {workers: 4}\nstorage: {read: [sst]}\n"
    (tmp_path / folder / "pangeo.yaml").write_text(asked)
    less = narrow(grant, find_request(tmp_path))
    assert (less.server.cpu, less.server.memory_bytes) == (1, 2 * GIB)
    assert less.dask is not None and less.storage is not None
    assert (less.dask.workers, less.dask.cores, less.dask.memory_bytes) == (4, 8, 32 * GIB)
    assert [entry.name for entry in less.storage.read] == ["sst"]
    assert less.reason.startswith(grant.reason) and "asks for less" in less.reason


def test_more_is_not_granted(grant: Grant) -> None:
    asked = b"server: {cpu: 64, memory: 1T}\ndask: {workers: 1000}\nstorage: {read: [sst, cmip6, secret]}\n"
    assert narrow(grant, read_request(asked)) == grant


@pytest.mark.parametrize("asked", [b"dask: none", b"dask: {workers: 0}"])
def test_no_dask_can_be_asked_for(grant: Grant, asked: bytes) -> None:
    assert narrow(grant, read_request(asked)).dask is None
    nothing = Grant("t", "r1", "r", grant.server)
    assert narrow(nothing, read_request(b"dask: {workers: 5}\nstorage: {read: [sst]}")) == nothing


_GRANTS = st.builds(
    DaskGrant,
    clusters=st.integers(1, 5),
    workers=st.integers(5, 50),
    cores=st.floats(10, 100),
    memory_bytes=st.integers(10 * GIB, 100 * GIB),
    worker_cores=st.floats(0.1, 2),
    worker_memory_bytes=st.integers(GIB, 2 * GIB),
    idle_seconds=st.just(60),
    start_workers=st.integers(0, 5),
)


@given(_GRANTS, st.integers(0, 60))
def test_no_wish_makes_a_cluster_larger(dask: DaskGrant, workers: int) -> None:
    grant = Grant("t", "r1", "r", ServerGrant(1, GIB, 60, 60), dask, StorageGrant(1, 1))
    less = narrow(grant, read_request(f"dask: {{workers: {workers}}}".encode())).dask
    if less is None:
        assert workers == 0
        return
    assert 1 <= less.workers <= min(workers, dask.workers)
    assert less.clusters <= dask.clusters and less.start_workers <= dask.start_workers
    assert less.cores <= dask.cores and less.memory_bytes <= dask.memory_bytes
    assert less == dask or less.start_workers * less.clusters <= less.workers


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (b"servers: {cpu: 1}", "binder/pangeo.yaml:1: There is no key `servers`. Did you mean `server`?"),
        (b"server:\n  memory: 2", "binder/pangeo.yaml:2: server.memory: Memory is at least 256M"),
        (b"dask: {workers: -1}", "binder/pangeo.yaml:1: dask.workers: This is at least 0."),
        (b"storage: {scratch: 1T}", "binder/pangeo.yaml:1: storage: There is no key `scratch`."),
        (b"dask:", "binder/pangeo.yaml:1: `dask` has no value."),
        (b"- 1", "binder/pangeo.yaml:1: This has keys below it."),
        (b"", "binder/pangeo.yaml:1: The file is empty."),
        (b"[" * MAX_BYTES, "binder/pangeo.yaml:1: The file is nested too deeply."),
        (b" " * (MAX_BYTES + 1), "binder/pangeo.yaml is larger than 16 KiB."),
        (b"a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]", "binder/pangeo.yaml:2: A text that begins with `*` needs quotes"),
    ],
)
def test_a_mistake_is_told_and_grants_nothing(asked: bytes, problem: str) -> None:
    with pytest.raises(RequestInvalid) as invalid:
        read_request(asked)
    assert invalid.value.message.startswith(problem)
    assert invalid.value.hint


def test_a_link_out_of_the_repository_is_not_followed(grant: Grant, tmp_path: Path) -> None:
    secret, checkout = tmp_path / "secret", tmp_path / "checkout"
    secret.write_text("token: hunter2")
    (checkout / "binder").mkdir(parents=True)
    (checkout / "binder" / "pangeo.yaml").symlink_to(secret)
    assert narrow(grant, find_request(checkout)) == grant
