"""The front's vending driver keeps the contract of all vending drivers."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pangeo_binder.storage.vend.base import Vended
from tests.contracts.vend import VendContract, Vending
from tests.storage.process import OWNER, Storage, closing_client, in_thread


class TestFrontVend(VendContract):
    """Keys of our own S3 front."""

    @pytest.fixture
    def vending(self, storage: Storage) -> Vending:
        service = storage.runner.service

        async def vend(launch_id: str) -> Vended:
            return await service.grant(launch_id, OWNER, storage.grant, time.time() + 3600)

        async def s3(vended: Vended, operation: str, arguments: dict[str, Any]) -> Any:
            with closing_client(dict(vended.environment)) as client:
                return await in_thread(lambda: getattr(client, operation)(**arguments))

        return Vending(vend, service.revoke, s3, "cmip6", "readme.txt")
