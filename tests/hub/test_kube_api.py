"""Namespaces that are too new: what they refuse for a moment is asked again, and nothing else is."""

from __future__ import annotations

import pytest
from kubernetes_asyncio.client.rest import ApiException

from pangeo_binder.kube.api import once_it_may

NEW = 'secrets "keys" is forbidden: status unknown for quota: launch, resources: secrets'
USED_UP = (
    'secrets "keys" is forbidden: exceeded quota: launch, requested: secrets=1, used: secrets=1, limited: secrets=1'
)


class Admission:
    """Refuses with each of `bodies` in turn, then lets in."""

    def __init__(self, *bodies: str) -> None:
        self._bodies = list(bodies)
        self.asked = 0

    async def create(self) -> str:
        self.asked += 1
        if not self._bodies:
            return "made"
        error = ApiException(status=403, reason="Forbidden")
        error.body = self._bodies.pop(0)
        raise error


async def test_what_is_too_new_is_asked_again():
    conflict = 'Operation cannot be fulfilled on resourcequotas "launch": the object has been modified'
    admission = Admission(
        NEW, 'error looking up service account a/default: serviceaccount "default" not found', conflict
    )
    assert await once_it_may(admission.create) == "made" and admission.asked == 4


async def test_what_is_refused_for_good_is_not():
    admission = Admission(NEW, USED_UP)
    with pytest.raises(ApiException):
        await once_it_may(admission.create)
    assert admission.asked == 2


async def test_it_is_given_up_in_the_end():
    admission = Admission(*[NEW] * 100)
    with pytest.raises(ApiException):
        await once_it_may(admission.create, seconds=0.3)
    assert 1 < admission.asked < 100
