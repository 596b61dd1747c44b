"""Loads policy files, and reports all their mistakes at once as `file:line: problem`.

The only module of the policy that reads policy files; binder, `check` and `explain` use it. Mistakes are defined in
`document` (YAML), `model` (each part) and `crosscheck` (between the parts).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from ..errors import PolicyInvalid
from .crosscheck import cross_check, parts_of
from .document import Document, NotYaml, Problem, document_of, part_of
from .model import Policy
from .sentences import at, problems_of

_HINT = "docs/policy.md describes every key."


def load_policy(path: Path) -> Policy:
    """Return the policy in the file at `path`. Raises PolicyInvalid with every problem of the file."""
    return _policy_of(_read(path), path)


def load_policy_in_values(path: Path) -> Policy:
    """Return the policy below the key `policy` of a file of chart values; lines are those of that file.

    Raises PolicyInvalid with every problem of the policy; other keys are the chart's own schema's to check.
    """
    raw = _read(path)
    try:
        return _policy_of(part_of(raw, "policy"), path)
    except NotYaml as error:
        raise _invalid(path, [error.problem]) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PolicyInvalid(f"{path}: There is no such file.") from None
    except OSError as error:
        raise PolicyInvalid(f"{path}: The file cannot be read ({error.strerror}).") from None


def _policy_of(raw: bytes, path: Path) -> Policy:
    try:
        document = document_of(raw)
    except NotYaml as error:
        raise _invalid(path, [error.problem]) from None
    policy, problems = _validated(document)
    if policy is None or problems:
        raise _invalid(path, problems)
    return policy


def default_policy(profile: Literal["local"] = "local") -> Policy:
    """Return the policy of a profile for which no file is given."""
    return load_policy(Path(__file__).with_name(f"{profile}.yaml"))


def _validated(document: Document) -> tuple[Policy | None, list[Problem]]:
    problems, policy = list(document.problems), None
    try:
        policy = Policy.model_validate(document.data)
    except ValidationError as error:
        problems += problems_of(error, Policy, document)
    for finding in cross_check(parts_of(document.data)):
        problems.append(Problem(document.line(finding.location), at(finding.location, finding.text)))
    return policy, problems


def _invalid(path: Path, problems: Iterable[Problem]) -> PolicyInvalid:
    ordered = sorted(problems, key=lambda problem: problem.line)
    return PolicyInvalid("\n".join(f"{path}:{problem.line}: {problem.text}" for problem in ordered), _HINT)
