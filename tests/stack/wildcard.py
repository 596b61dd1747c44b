"""A wildcard DNS entry for this process: names below a domain lead to one address."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def names_below(domain: str, address: str) -> Iterator[None]:
    """Resolve `domain` and all names below it to `address`; others resolve as before."""
    resolve = socket.getaddrinfo

    def resolved(host: Any, *rest: Any, **options: Any) -> Any:
        ours = isinstance(host, str) and f".{host}".endswith(f".{domain}")
        return resolve(address if ours else host, *rest, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", resolved)
        yield
