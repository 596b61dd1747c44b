"""Convert a notebook file to HTML without scripts: `python -m pangeo_binder.launch.notebook_html <file>` prints it.

Runs as a process of its own under limits of time and memory, because the file is a stranger's; not for fetching it.
nbconvert renders, and nh3 (the sanitiser of ammonia) keeps an allow-list of elements and attributes.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import nbformat
import nh3
from nbconvert import HTMLExporter

_TAGS = nh3.ALLOWED_TAGS | {"section"}
_ATTRIBUTES = {**{tag: {*names} for tag, names in nh3.ALLOWED_ATTRIBUTES.items()}, "*": {"class"}}
_IMAGES = ("data:image/png;", "data:image/jpeg;", "data:image/gif;", "data:image/webp;")


def _attribute(tag: str, name: str, value: str) -> str | None:
    """Return the value to keep: images only from the notebook itself, links only to web pages."""
    if name == "src":
        return value if tag == "img" and value.startswith(_IMAGES) else None
    if value.lower().startswith("data:"):
        return None
    return value


def to_html(text: str) -> str:
    """Return the notebook in the JSON `text` as HTML without scripts, styles, frames and forms. Raises ValueError."""
    try:
        notebook = nbformat.reads(text, as_version=4)
    except Exception:  # it raises many kinds
        raise ValueError("not a notebook") from None
    with warnings.catch_warnings(action="ignore"):  # it names optional lexers, and mistakes of the notebook
        body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    return nh3.clean(
        body,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=_attribute,
        url_schemes={"http", "https", "data"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


if __name__ == "__main__":
    try:
        sys.stdout.write(to_html(Path(sys.argv[1]).read_text(encoding="utf-8")))
    except ValueError:
        sys.exit("This file is not a notebook.")
