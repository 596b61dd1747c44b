"""What an image of an environment tells about itself in its labels: what its repository asks for in `pangeo.yaml`.

The build pod writes them, the binder reads them in the registry. A Dockerfile cannot write ours, since the build sets
each of them last, empty ones too. Pure but for reading the checkout.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ..policy.request import RepositoryRequest, RequestInvalid, read_request, request_file

REQUEST_LABEL: Final = "pangeo-binder.request"
"""The repository's `pangeo.yaml` in base64, in which nothing has to be quoted; empty where it has none."""


def labels_of(checkout: Path) -> dict[str, str]:
    """Return the labels of the image of the repository at `checkout`. Raises RequestInvalid."""
    found = request_file(checkout)
    if found is None:
        return {REQUEST_LABEL: ""}
    name, raw = found
    read_request(raw, name)
    return {REQUEST_LABEL: base64.b64encode(raw).decode()}


def request_of(labels: Mapping[str, str]) -> RepositoryRequest:
    """Return what an image's repository asks for. Raises RequestInvalid."""
    try:
        raw = base64.b64decode(labels.get(REQUEST_LABEL, ""), validate=True)
    except (binascii.Error, ValueError):
        message = f"The image of this environment has an unreadable label {REQUEST_LABEL}."
        raise RequestInvalid(message, "Tell the binder's operator.") from None
    return read_request(raw) if raw else RepositoryRequest()
