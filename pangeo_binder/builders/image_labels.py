"""Labels of an environment's image: they carry the repository's request (`pangeo.yaml`).

The build pod writes them and the binder reads them from the registry. A Dockerfile cannot forge them, because the build
sets each label last, also an empty one. Pure except for reading the checkout.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ..policy.request import RepositoryRequest, RequestInvalid, read_request, request_file

REQUEST_LABEL: Final = "pangeo-binder.request"
"""The repository's `pangeo.yaml` in base64, which needs no quoting; empty if the repository has no such file."""


def labels_of(checkout: Path) -> dict[str, str]:
    """Return the image labels for the repository at `checkout`. Raises RequestInvalid."""
    found = request_file(checkout)
    if found is None:
        return {REQUEST_LABEL: ""}
    name, raw = found
    read_request(raw, name)
    return {REQUEST_LABEL: base64.b64encode(raw).decode()}


def request_of(labels: Mapping[str, str]) -> RepositoryRequest:
    """Return the repository's request from an image's labels. Raises RequestInvalid."""
    try:
        raw = base64.b64decode(labels.get(REQUEST_LABEL, ""), validate=True)
    except (binascii.Error, ValueError):
        message = f"The image of this environment has an unreadable label {REQUEST_LABEL}."
        raise RequestInvalid(message, "Tell the binder's operator.") from None
    return read_request(raw) if raw else RepositoryRequest()
