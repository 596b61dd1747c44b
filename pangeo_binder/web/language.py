"""The languages of the pages: their texts, and which of them a request gets.

The pages' own texts are in English in the templates and scripts; `templates/locale/<language>.po` translates them. What
a launch itself says (events, errors, logs) stays English, so that a search finds it. Binder process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from babel.core import Locale, negotiate_locale
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations

ENGLISH = "en"
_MOST_LANGUAGES = 20


@dataclass(frozen=True, slots=True)
class Language:
    """One language of the pages."""

    code: str
    """Its code in HTML and HTTP (RFC 5646), such as `es`."""
    name: str
    """Its own name, such as `español`."""
    texts: NullTranslations
    script_texts: Mapping[str, str | list[str]]
    """The translated texts of the scripts by the English ones; a list has the forms for one and for many."""


def read_languages(folder: Path) -> dict[str, Language]:
    """Return English and the languages of the catalogues `<code>.po` in `folder`, by their codes."""
    languages = {ENGLISH: Language(ENGLISH, "English", NullTranslations(), {})}
    for path in sorted(folder.glob("*.po")):
        with path.open("rb") as file:
            languages[path.stem] = _language(path.stem, read_po(file, locale=path.stem, abort_invalid=True))
    return languages


def _language(code: str, catalogue: Catalog) -> Language:
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    scripts: dict[str, str | list[str]] = {}
    for message in catalogue:
        if message.id and any(name.endswith(".js") for name, _ in message.locations):
            english, translated = message.id, message.string or ""
            key = english if isinstance(english, str) else english[0]
            scripts[key] = translated if isinstance(translated, str) else list(translated)
    return Language(code, Locale.parse(code).get_display_name() or code, Translations(compiled), scripts)


def choose(languages: Iterable[str], chosen: str, accepted: str) -> str:
    """Return the language for a request: the one `chosen` before, else by its Accept-Language header, else English."""
    known = list(languages)
    if chosen in known:
        return chosen
    wanted = []
    for part in accepted.split(",")[:_MOST_LANGUAGES]:
        tag, _, quality = part.strip().partition(";q=")
        try:
            wanted.append((-float(quality or 1), tag.strip()))
        except ValueError:
            continue
    ordered = [tag for weight, tag in sorted(wanted, key=lambda pair: pair[0]) if weight < 0]
    return negotiate_locale(ordered, known, sep="-") or ENGLISH
