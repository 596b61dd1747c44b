"""A temporary refusal, such as that of a new namespace, is retried; any other is final."""

from __future__ import annotations

import pytest
from kubernetes_asyncio.client.rest import ApiException

from pangeo_binder.kube.api import delete_if_present, log_text, retry_temporary

NOT_COUNTED = 'secrets "keys" is forbidden: status unknown for quota: launch, resources: secrets'
NO_ACCOUNT = 'pods "p" is forbidden: error looking up service account a/default: serviceaccount "default" not found'
CONFLICT = 'Operation cannot be fulfilled on resourcequotas "launch": the object has been modified'
USED_UP = (
    'secrets "keys" is forbidden: exceeded quota: launch, requested: secrets=1, used: secrets=1, limited: secrets=1'
)


def error_of(status: int, body: str) -> ApiException:
    error = ApiException(status=status, reason="Forbidden")
    error.body = body
    return error


class Admission:
    """Refuses with each of `bodies` in turn, then accepts."""

    def __init__(self, *bodies: str, status: int = 403) -> None:
        self._bodies, self._status = list(bodies), status
        self.requests = 0

    async def create(self) -> str:
        self.requests += 1
        if not self._bodies:
            return "made"
        raise error_of(self._status, self._bodies.pop(0))


async def test_a_temporary_refusal_is_retried():
    admission = Admission(NOT_COUNTED, NO_ACCOUNT, CONFLICT)
    assert await retry_temporary(admission.create) == "made" and admission.requests == 4


async def test_any_other_refusal_is_final():
    admission = Admission(NOT_COUNTED, USED_UP)
    with pytest.raises(ApiException):
        await retry_temporary(admission.create)
    assert admission.requests == 2


async def test_retries_end():
    admission = Admission(*[NOT_COUNTED] * 100)
    with pytest.raises(ApiException):
        await retry_temporary(admission.create, seconds=0.3)
    assert 1 < admission.requests < 100


@pytest.mark.parametrize("status", [404, 409])
async def test_a_missing_object_is_deleted(status):
    await delete_if_present(Admission("", status=status).create())


async def test_a_deletion_without_permission_fails():
    with pytest.raises(ApiException):
        await delete_if_present(Admission("", status=403).create())


def test_the_log_has_the_reason_but_no_secret():
    assert "launch" in log_text(error_of(403, USED_UP))
    assert "hunter2" not in log_text(error_of(422, 'Secret "s" is invalid: data: Invalid value: "hunter2"'))
