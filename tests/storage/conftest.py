"""The servers of the storage process in this event loop, a launch with storage, and a data set it may read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pangeo_binder.model import CatalogueEntry, StorageGrant
from pangeo_binder.storage.app import serve
from tests.storage.process import Admin, Session, Storage, closing_client, make_settings, prefix_of


@pytest.fixture
def dataset(tmp_path: Path) -> CatalogueEntry:
    """An operator's data set, in a directory."""
    folder = tmp_path / "cmip6"
    (folder / "tas").mkdir(parents=True)
    (folder / "tas" / "1.bin").write_bytes(b"warm" * 1000)
    (folder / "readme.txt").write_text("hello")
    return CatalogueEntry("cmip6", folder.as_uri())


@pytest.fixture
def grant(dataset: CatalogueEntry) -> StorageGrant:
    return StorageGrant(scratch_bytes=200_000_000, keep_seconds=3600, egress_bytes=None, read=(dataset,))


@pytest.fixture
async def storage(tmp_path: Path, dataset: CatalogueEntry, grant: StorageGrant) -> AsyncIterator[Storage]:
    settings = make_settings(tmp_path / "state")
    runner = await serve(settings)
    try:
        yield Storage(settings, runner, Admin(f"http://127.0.0.1:{runner.admin_port}"), dataset, grant)
    finally:
        await runner.cleanup()


@pytest.fixture
async def session(storage: Storage) -> AsyncIterator[Session]:
    environment = await storage.admin.issue(storage.grant)
    with closing_client(environment) as client:
        yield Session(environment, client, prefix_of(environment))
