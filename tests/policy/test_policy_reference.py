"""docs/policy.md is the whole reference: its examples load, and every key of the schema stands in it, and no other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from pangeo_binder.policy.load import load_policy
from pangeo_binder.policy.model import Policy, Rule, Tier
from pangeo_binder.policy.request import read_request

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "policy.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        parts = [part for part in (field.annotation, *get_args(field.annotation)) if _is_model(part)]
        if prefix and parts:
            yield from _keys(parts[0], f"{prefix}{name}.")
        elif not parts:
            yield f"{prefix}{name}"


def _is_model(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)


def _section(title: str) -> set[str]:
    section = TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([\w.]+)` \|", section, re.MULTILINE))


def test_the_examples_load(policy_file: Callable[[str], Path]) -> None:
    policy, request = EXAMPLES
    assert load_policy(policy_file(policy)).tiers.keys() == {"anonymous", "pangeo"}
    assert read_request(request.encode()).dask.workers == 4


@pytest.mark.parametrize("section", ["total", "catalogue", "rules"])
def test_every_key_of_a_section_is_described(section: str) -> None:
    annotation = Policy.model_fields[section].annotation
    model = next(part for part in (annotation, *get_args(annotation)) if _is_model(part))
    assert _section(section) == set(model.model_fields)


def test_every_key_of_a_tier_is_described() -> None:
    keys = {key for name, field in Tier.model_fields.items() for key in _nested(name, field.annotation)}
    assert _section("tiers") == keys | {"dask", "storage"}, "the two that can be `none` have a line of their own"


def _nested(name: str, annotation: Any) -> Iterator[str]:
    model = next(part for part in (annotation, *get_args(annotation)) if _is_model(part))
    yield from _keys(model, f"{name}.")


def test_every_section_is_described() -> None:
    for section in Policy.model_fields:
        assert f"\n## {section}\n" in TEXT


def test_no_limit_is_described_that_nobody_enforces() -> None:
    assert "hours_per_day" not in TEXT
    assert "dask_core_hours_per_day" not in Rule.model_fields
