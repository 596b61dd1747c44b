"""Model objects with every field set, so that a test sees any field that is lost."""

from __future__ import annotations

import pytest
from hypothesis import settings

from pangeo_binder.model import (
    CatalogueEntry,
    DaskGrant,
    Grant,
    Launch,
    Link,
    Repo,
    RepoRef,
    ServerGrant,
    StorageGrant,
    VirtualEnvironment,
)

settings.register_profile("no_deadline", deadline=None)  # load on the machine must not fail a test
settings.load_profile("no_deadline")


LINK = Link(
    "https://binder.example.org/",
    "v2/git/https%3A%2F%2Fexample.org%2Forg%2Frepo/main",
    "v2/git/https%3A%2F%2Fexample.org%2Forg%2Frepo/0123456789abcdef0123456789abcdef01234567",
    "https://example.org/org/repo",
)


@pytest.fixture
def grant() -> Grant:
    """A grant with every field set."""
    return Grant(
        tier="pangeo",
        rule="gallery",
        reason="Rule 2 (gh/org/*) gives the tier pangeo.",
        server=ServerGrant(1.5, 2**31, 600, 3600),
        dask=DaskGrant(1, 20, 40, 2**37, 2, 2**33, 600, start_workers=2, precreate=True, required=True),
        storage=StorageGrant(2**30, 86400, 2**38, (CatalogueEntry("cmip6", "s3://cmip6-pds", "us-west-2"),)),
    )


@pytest.fixture
def launch(grant: Grant) -> Launch:
    """A launch with every field set."""
    repo = Repo(RepoRef("git", "https://example.org/org/repo", "main"), "0123456789abcdef0123456789abcdef01234567")
    environment = VirtualEnvironment("e1", "/cache/e1", "/cache/e1/checkout", ("bash", "start"))
    return Launch("abcdefghijk1", "repo-abcdefghijk1", "", repo, environment, grant, "203.0.113.0", LINK)
