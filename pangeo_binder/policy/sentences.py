"""Describes in sentences what pydantic found wrong in a file, and which key was probably meant. Pure."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .document import Document, Location, Problem

_KINDS = {
    "bool_type": "This is `true` or `false`.",
    "dict_type": "This has keys below it.",
    "finite_number": "This is a finite number.",
    "float_type": "This is a number.",
    "int_type": "This is a whole number.",
    "invalid_key": "A key is a text; put it in quotes.",
    "model_type": "This has keys below it.",
    "string_type": "This is a text; put it in quotes.",
    "too_short": "This is empty.",
    "tuple_type": "This is a list.",
}


def problems_of(error: ValidationError, kind: type[BaseModel], document: Document) -> list[Problem]:
    """Return a problem for each mistake that `error`, from validating `document` as `kind`, holds."""
    found = error.errors(include_url=False)
    return [_problem(each, kind, document) for each in found if not _is_told(each)]


def at(location: Location, sentence: str) -> str:
    """Return `sentence` with the words for `location` in front: `tiers.pangeo.server.idle`, `rule 3.servers`."""
    words = [str(part) for part in location]
    if len(location) > 1 and location[0] == "rules" and isinstance(location[1], int):
        words = [f"rule {location[1] + 1}", *words[2:]]
    return f"{'.'.join(words)}: {sentence}" if words else sentence


def _is_told(error: ErrorDetails) -> bool:
    return error["input"] is None and error["type"] != "missing"  # a key without a value, which the document reports


def _problem(error: ErrorDetails, kind: type[BaseModel], document: Document) -> Problem:
    location = tuple(part for part in error["loc"] if part != "[key]")
    if error["type"] in ("missing", "extra_forbidden"):
        around, key = location[:-1], str(location[-1])
        keys = list(_model_at(kind, around).model_fields)
        if error["type"] == "missing":
            return Problem(document.line(around), at(around, f"The key `{key}` is missing."))
        close = get_close_matches(key, keys, 1)
        meant = f"Did you mean `{close[0]}`?" if close else f"Known here: {', '.join(keys)}."
        return Problem(document.line(location), at(around, f"There is no key `{key}`. {meant}"))
    return Problem(document.line(location), at(location, _sentence(error)))


def _sentence(error: ErrorDetails) -> str:
    context: dict[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return str(context["error"])  # our own validators' sentence
        case "greater_than":
            return f"This is more than {context['gt']:g}."
        case "greater_than_equal":
            return f"This is at least {context['ge']:g}."
        case "literal_error":
            return f"This is {context['expected'].replace(chr(39), '`')}."
        case known:
            return _KINDS.get(known, f"{error['msg']}.")


def _model_at(kind: Any, location: Location) -> type[BaseModel]:
    """Return the model at `location` of data that has the type `kind`."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _model_at(kind.model_fields[str(location[0])].annotation, location[1:]) if location else kind
    inner = next(arg for arg in get_args(kind) if isinstance(arg, type) and issubclass(arg, BaseModel))
    return _model_at(inner, location[1:] if get_origin(kind) in (dict, tuple) else location)
