"""Decisions about which operations a launch may do on which keys, each with its refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pangeo_binder import names
from pangeo_binder.model import CatalogueEntry, StorageGrant
from pangeo_binder.storage.keys import derive_keys, launch_of
from pangeo_binder.storage.scope import Operation, key_problem, scope_of

MINE, OTHER = "a23456789012", "a23456789013"
READ = (CatalogueEntry("sst", "s3://noaa-data/sst/v2"), CatalogueEntry("all", "gs://cmip6"))
SCOPE = scope_of(MINE, StorageGrant(10, 0, None, READ))
WRITES = (Operation.WRITE, Operation.DELETE)


@pytest.mark.parametrize("operation", list(Operation))
def test_every_operation_is_allowed_on_own_scratch(operation: Operation) -> None:
    assert SCOPE.decide(operation, "scratch", f"{MINE}/a/b.zarr/0.0").allowed


@pytest.mark.parametrize("operation", list(Operation))
@pytest.mark.parametrize(
    ("bucket", "key"),
    [
        ("scratch", f"{OTHER}/a"),
        ("scratch", f"{MINE}x/a"),
        ("scratch", MINE[:-1]),
        ("scratch", "a"),
        ("noaa-data", "sst/v1/a"),
        ("noaa-data", "sst/v2x/a"),
        ("elsewhere", f"{MINE}/a"),
        ("", "a"),
    ],
)
def test_other_keys_are_refused_with_a_reason(operation: Operation, bucket: str, key: str) -> None:
    decision = SCOPE.decide(operation, bucket, key)
    assert not decision.allowed
    assert decision.reason.endswith(".")


def test_the_catalogue_is_read_only() -> None:
    for bucket, key in (("noaa-data", "sst/v2/2020.nc"), ("cmip6", "tas/0.0")):
        assert all(SCOPE.decide(op, bucket, key).allowed for op in Operation if op not in WRITES)
        assert not any(SCOPE.decide(op, bucket, key).allowed for op in WRITES)


def test_the_bare_prefix_can_only_be_listed_and_checked() -> None:
    allowed = {op for op in Operation if SCOPE.decide(op, "scratch", MINE).allowed}
    assert allowed == {Operation.LIST, Operation.EXISTS}


BAD_TAILS = ["../x", "a/../x", "a//b", "/a", "a/./b", "a\nb", "a\x00b", "..", "a/..", "x" * 256, "a/" * 80 + "b", "b/"]


@pytest.mark.parametrize("tail", BAD_TAILS)
def test_hostile_keys_are_invalid(tail: str) -> None:
    assert key_problem(f"{MINE}/{tail}")
    assert not SCOPE.decide(Operation.WRITE, "scratch", f"{MINE}/{tail}").allowed
    assert not SCOPE.decide(Operation.READ, "scratch", f"{MINE}/{tail}").allowed


def test_the_empty_key_and_the_root_are_refused() -> None:
    assert not any(SCOPE.decide(op, "scratch", key).allowed for op in Operation for key in ("", "/", ".", ".."))


@given(st.text(max_size=40), st.sampled_from(list(Operation)))
def test_no_allowed_key_is_outside_the_prefix(key: str, operation: Operation) -> None:
    for candidate in (key, f"{MINE}{key}", f"{MINE}/{key}"):
        if SCOPE.decide(operation, "scratch", candidate).allowed:
            assert candidate.startswith(f"{MINE}/") or candidate == MINE
            assert ".." not in candidate.split("/")


@given(st.text(max_size=40))
def test_listings_have_only_own_keys(key: str) -> None:
    assert SCOPE.is_visible("scratch", key) == key.startswith(f"{MINE}/")


BAD_URLS = [
    "http://host/x",
    "s3://",
    "s3://scratch/x",
    "s3://bucket/a/../b",
    "s3://key:secret@bucket/x",
    "s3://bucket/x?versionId=1",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_catalogue_url_that_cannot_be_served_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="catalogue entry 'x'"):
        scope_of(MINE, StorageGrant(1, 0, None, (CatalogueEntry("x", url),)))


def test_entries_that_disagree_about_a_bucket_are_refused() -> None:
    entries = (CatalogueEntry("a", "s3://b/x", "us-east-1"), CatalogueEntry("b", "s3://b/y", "us-west-2"))
    with pytest.raises(ValueError, match="disagree"):
        scope_of(MINE, StorageGrant(1, 0, None, entries))


@pytest.mark.parametrize("launch_id", ["", "short", "../../../etc", "a2345678901/", "A23456789012", "a234567890123"])
def test_only_a_launch_id_has_a_scope(launch_id: str) -> None:
    with pytest.raises(ValueError, match="launch id"):
        scope_of(launch_id, StorageGrant(1, 0))


def test_keys_derive_from_the_master_key_and_differ_per_launch() -> None:
    launch_id = names.new_launch_id()
    keys = derive_keys("master", launch_id)
    assert launch_of(keys.access_key_id) == launch_id
    assert keys == derive_keys("master", launch_id)
    others = (derive_keys("other", launch_id), derive_keys("master", names.new_launch_id()))
    assert all(keys.secret != other.secret and keys.session_token != other.session_token for other in others)
    assert keys.secret != keys.session_token
    assert keys.secret not in repr(keys)


@pytest.mark.parametrize(
    "text", ["", "AKIAIOSFODNN7EXAMPLE", "PBND", "PBNDa23456789012", "PBNDA2345678901", "A23456789012"]
)
def test_foreign_access_key_ids_belong_to_no_launch(text: str) -> None:
    assert launch_of(text) is None
