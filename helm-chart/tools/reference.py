"""Generates the chart's JSON schema, which Helm reads, and the reference of its values.

Run it without arguments after a change of `values.schema.yaml` or `values.yaml`; a test checks that both are current.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm-chart" / "pangeo-binder"
SCHEMA_JSON = CHART / "values.schema.json"
REFERENCE = ROOT / "docs" / "reference" / "values.md"
_INTRO = """# Values of the chart

Generated from `helm-chart/pangeo-binder/values.schema.yaml` and `values.yaml`. [kubernetes.md](../kubernetes.md) says
how the values work together. Any other key is refused, except below `jupyterhub` and `dask-gateway`.
"""
Schema = dict[str, Any]


def schema() -> Schema:
    """Return the schema of the chart's values with its definitions inlined, so that Helm's errors are short."""
    loaded: Schema = yaml.safe_load((CHART / "values.schema.yaml").read_text())
    definitions = loaded.pop("definitions")
    inlined: Schema = _inline(loaded, definitions)
    return inlined


def _inline(part: Any, definitions: Schema) -> Any:
    """Return `part` with its references inlined; keys next to a reference override the definition's."""
    if isinstance(part, list):
        return [_inline(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    merged = {key: _inline(value, definitions) for key, value in part.items() if key != "$ref"}
    if "$ref" in part:
        merged = {**_inline(definitions[part["$ref"].rpartition("/")[2]], definitions), **merged}
    return merged


def schema_json() -> str:
    """Return the text of `values.schema.json`."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def reference() -> str:
    """Return the text of the reference."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    lines = [_INTRO]
    for name, part in schema()["properties"].items():
        lines += [f"## {name}\n", part.get("description", "") + "\n"]
        rows = list(_rows(part, name, defaults.get(name)))
        if rows:
            lines += ["| key | kind | default | meaning |", "|---|---|---|---|", *rows, ""]
        elif part.get("type") != "object":
            lines += [f"Default: `{json.dumps(defaults[name])}`\n"]
    return "\n".join(lines).rstrip() + "\n"


def _rows(part: Schema, at: str, defaults: Any) -> Iterator[str]:
    for key, child in part.get("properties", {}).items():
        default = defaults.get(key) if isinstance(defaults, dict) else None
        yield from _row(child, f"{at}.{key}", default)


def _row(part: Schema, path: str, default: Any) -> Iterator[str]:
    ours = not part.get("x-kubernetes")
    nested = ours and "properties" in part
    text = part.get("description", "").replace("|", "\\|")
    shown = "" if default is None or nested else f"`{json.dumps(default, ensure_ascii=False)}`"
    yield f"| `{path}` | {_kind(part)} | {shown} | {text} |"
    if not ours:
        return
    yield from _rows(part, path, default)
    yield from _rows(part.get("items", {}), f"{path}[]", None)
    each = part.get("additionalProperties")
    if isinstance(each, dict):
        yield from _rows(each, f"{path}.<name>", None)


def _kind(part: Schema) -> str:
    if "enum" in part:
        return " or ".join(f"`{each}`" for each in part["enum"])
    kind = part.get("type", "")
    words = {"array": "list", "integer": "whole number", "boolean": "true, false", "string": "text"}
    return " or ".join(words.get(each, each) for each in ([kind] if isinstance(kind, str) else kind))


def main() -> None:
    """Write both files."""
    SCHEMA_JSON.write_text(schema_json())
    REFERENCE.parent.mkdir(parents=True, exist_ok=True)
    REFERENCE.write_text(reference())


if __name__ == "__main__":
    main()
