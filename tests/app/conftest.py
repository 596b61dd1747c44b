"""BinderHub, imported without failing for what it imports that is deprecated: warnings of ours stay errors."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import binderhub.app  # noqa: F401
