"""The names of a service on loopback, and the comparison of a request's Host header with the names that are served.

Another site can point its own name to loopback (DNS rebinding). A browser then treats that site's pages as the
service's own, so only the Host header shows the difference. Pure; used by every process.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

LOOPBACK: Final = "127.0.0.1"
LOOPBACK_NAMES: Final = (LOOPBACK, "localhost", "[::1]")
WRONG_HOST: Final = "This service does not have the name in the request's Host header."
_PORT: Final = re.compile(r":[0-9]*$")


def is_named(host: str, names: Sequence[str]) -> bool:
    """Return whether `host` (a Host header, with or without a port) is one of `names`, whatever its letters' case.

    An IPv6 address may be in `names` with or without brackets.
    """
    name = _PORT.sub("", host.lower()) if not host.endswith("]") else host.lower()
    return name.strip("[]") in {each.strip("[]") for each in names}
