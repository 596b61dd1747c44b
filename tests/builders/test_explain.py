"""Test the translation of uv's error output, as real versions of uv wrote it, into messages for users."""

from __future__ import annotations

import pytest

from pangeo_binder.builders.venv.explain import explain

CASES = [
    (
        "cause: Because there is no version of numpy==99.0 and you require numpy==99.0, we can conclude that your "
        "requirements are unsatisfiable.",
        "The package index has no version that matches `numpy==99.0`.",
    ),
    (
        "  ╰─▶ Because no-such-xyz was not found in the package registry and you require no-such-xyz, we can conclude "
        "that your requirements are unsatisfiable.",
        "The package index has no package `no-such-xyz`.",
    ),
    (
        "Because distributed==2024.5.0 depends on dask==2024.5.0 and you require distributed==2024.5.0, we "
        "can conclude that you require dask==2024.5.0.\nAnd because you require dask==2024.4.0, we can "
        "conclude that your requirements are unsatisfiable.",
        "The requirements `distributed==2024.5.0` and `dask==2024.4.0` conflict with each other.",
    ),
    (
        "we can conclude that dask-gateway>=2022.4.0 depends on tornado>=6.0.3.\nAnd because you require "
        "dask-gateway>=2022.4 and tornado==4.5, we can conclude that your requirements are unsatisfiable.",
        "The requirement `tornado==4.5` conflicts with `dask-gateway>=2022.4`, which every session needs.",
    ),
    (
        "Because the current Python version (3.11.7) does not satisfy Python>=3.12 and a==1 depends on Python>=3.12, "
        "we can conclude that your requirements are unsatisfiable.",
        "A requirement of this repository needs Python>=3.12, but its environment has Python 3.11.7.",
    ),
    ("error: Couldn't parse requirement in `binder/requirements.txt` at position 0", "requirements.txt has a line"),
    ("failed to read from file `/a/b/missing.txt`: No such file", "name the file missing.txt"),
    ("failed to write to file `/c/x`: No space left on device (os error 28)", "This binder's disk is full."),
    ("Failed to fetch: http://a/\ntcp connect error\nConnection refused", "The package index cannot be reached"),
    ("error: Failed to build `sea @ file:///a/b`\nThe build backend returned an error", "`sea` could not be built"),
    ("an unknown error", "could not be installed"),
]


@pytest.mark.parametrize(("output", "sentence"), CASES)
def test_names_the_requirement_at_fault(output, sentence):
    assert sentence in explain(output.splitlines()).message
