"""Test the languages of the pages: complete catalogues, the choice for a request, and a launch in Spanish."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from babel.messages.catalog import Message
from babel.messages.pofile import read_po
from playwright.async_api import expect

from pangeo_binder.web.language import choose
from tests.web.texts import LOCALE, collect
from tests.web.webapp import SmallLaunch, WebApp, bad_events

LINK = "/v2/git/https%3A%2F%2Fexample.org%2Fsst/main"
_MARKS = re.compile(r"%\(\w+\)s|</?\w+[^>]*>")


def key_of(message: Message) -> tuple[Any, ...]:
    return message.id, message.context, tuple(sorted({file for file, _ in message.locations}))


def texts(message: Message) -> list[str]:
    return list(message.string) if isinstance(message.string, tuple) else [message.string]


@pytest.mark.parametrize("path", sorted(LOCALE.glob("*.po")), ids=lambda path: path.stem)
def test_a_catalogue_translates_exactly_the_texts_of_the_pages(path: Any) -> None:
    with path.open("rb") as file:
        catalogue = read_po(file, locale=path.stem)
    assert {key_of(message) for message in catalogue} == {key_of(message) for message in collect()}
    for message in catalogue:
        if message.id:
            source = message.id[-1] if isinstance(message.id, tuple) else message.id
            for text in texts(message):
                assert text and sorted(_MARKS.findall(text)) == sorted(_MARKS.findall(source)), message.id


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        ("", "", "en"),
        ("", "es", "es"),
        ("", "es-MX,es;q=0.9,en;q=0.8", "es"),
        ("", "en-GB,en;q=0.9,es;q=0.8", "en"),
        ("", "es;q=0.5, en", "en"),
        ("", "de, fr;q=0.9, es;q=0.1", "es"),
        ("", "es;q=0", "en"),
        ("", "de", "en"),
        ("", "*", "en"),
        ("", "es;q=x,,;q=, ;", "en"),
        ("en", "es", "en"),
        ("es", "en", "es"),
        ("../../etc", "es", "es"),
    ],
)
def test_the_language_of_a_request(chosen: str, accepted: str, language: str) -> None:
    assert choose(["en", "es"], chosen, accepted) == language


async def test_a_link_of_the_page_chooses_its_language(web: WebApp) -> None:
    url = web.start(SmallLaunch([]))
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        async with http.get(f"{url}/about?urlpath=%3Ca%3E&token=s3cret&lang=es") as response:
            page = await response.text()
        assert '<html lang="es">' in page and 'href="?urlpath=%3Ca%3E&amp;lang=en"' in page and "s3cret" not in page
        async with http.get(f"{url}/about", headers={"Accept-Language": "en"}) as response:
            assert '<html lang="es">' in await response.text()
            assert "Accept-Language" in response.headers["Vary"] and "Set-Cookie" not in response.headers
        async with http.get(f"{url}/about?lang=%22onload=%22") as response:
            page = await response.text()
        assert '<html lang="es">' in page and "onload" not in page and "Set-Cookie" not in response.headers


@pytest.mark.browser
async def test_a_failed_launch_in_spanish(web: WebApp, watch: Callable[..., Any]) -> None:
    seen = await watch(locale="es-MX")
    await seen.page.goto(f"{web.start(SmallLaunch(bad_events()))}{LINK}")
    await expect(seen.page).to_have_title("Fallido: sst | Pangeo Binder")
    failure = seen.page.get_by_role("region", name="Este lanzamiento ha fallado")
    await expect(failure.get_by_role("button")).to_have_text(["Intentar de nuevo", "Copiar informe"])
    await expect(failure.locator(".sentence")).to_have_attribute("lang", "en")
    await expect(seen.page.get_by_role("listitem").first).to_contain_text("Resolver, hecho")
    await expect(seen.page.get_by_role("region", name="Lo que recibe")).to_contain_text(
        "hasta 20 procesos de trabajo de 2 núcleos, 8 GiB de memoria"
    )
    assert not seen.messages
