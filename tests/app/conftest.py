"""Imports BinderHub with its own deprecation warnings ignored; warnings of our code stay errors."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import binderhub.app  # noqa: F401
