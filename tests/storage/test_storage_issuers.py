"""The issuer of the S3 front fulfils the contract of all issuers."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pangeo_binder.storage.issuers.base import Credentials
from tests.contracts.issuer import IssuerContract, Issuing
from tests.storage.process import OWNER, Storage, closing_client, in_thread


class TestFrontIssuer(IssuerContract):
    """Tests of the issuer of the S3 front."""

    @pytest.fixture
    def issuing(self, storage: Storage) -> Issuing:
        service = storage.runner.service

        async def issue(launch_id: str) -> Credentials:
            return await service.grant(launch_id, OWNER, storage.grant, time.time() + 3600)

        async def s3(issued: Credentials, operation: str, arguments: dict[str, Any]) -> Any:
            with closing_client(dict(issued.environment)) as client:
                return await in_thread(lambda: getattr(client, operation)(**arguments))

        return Issuing(issue, service.revoke, s3, "cmip6", "readme.txt")
