"""Collects the texts of the pages. `python -m tests.web.texts` adds new ones to the translations."""

from __future__ import annotations

from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from pangeo_binder.repos.registry import make_providers
from pangeo_binder.resources import resource

TEMPLATES = resource("templates")
LOCALE = TEMPLATES / "locale"
_METHODS = [("**.html", "jinja2"), ("static/**.js", "javascript")]
_OPTIONS = {"**.html": {"newstyle_gettext": "true", "trimmed": "true"}}


def collect() -> Catalog:
    """Return the texts of templates, scripts and forms, each with the files that use it."""
    found = Catalog(project="pangeo-binder", charset="utf-8")
    for file, _line, text, _comments, context in extract_from_dir(TEMPLATES, _METHODS, _OPTIONS):
        found.add(text, locations=[(file, 0)], context=context)
    for provider in make_providers():
        for text in (provider.form.label, provider.display_name):
            found.add(text, locations=[(f"repos {provider.name}", 0)])
    return found


def updated(path: Path) -> Catalog:
    """Return the catalogue at `path` with exactly the texts of today; a new text has no translation."""
    with path.open("rb") as file:
        catalogue = read_po(file, locale=path.stem)
    catalogue.update(collect(), no_fuzzy_matching=True)
    catalogue.obsolete.clear()
    return catalogue


if __name__ == "__main__":
    for path in LOCALE.glob("*.po"):
        new = updated(path)
        with path.open("wb") as file:
            write_po(file, new, width=120, sort_output=True, include_lineno=False, omit_header=False)
