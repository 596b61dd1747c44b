"""Test what BinderHub's own front end and other programs read, and the mode without pages."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from pangeo_binder.repos.registry import RepositoryHosts, make_providers
from pangeo_binder.web.limits import Limits
from tests.web.webapp import SmallLaunch, WebApp, exactly, good_events

BUILD = "/build/git/https%3A%2F%2Fexample.org%2Fsst/main"
PROVIDERS = make_providers(RepositoryHosts())

TYPED = [
    ("gh", "binder-examples/requirements", "gh/binder-examples/requirements/HEAD"),
    ("gh", "https://github.com/binder-examples/requirements/", "gh/binder-examples/requirements/HEAD"),
    ("gl", "https://gitlab.com/mosaik/examples/tutorials", "gl/mosaik%2Fexamples%2Ftutorials/HEAD"),
    ("git", "https://example.org/repo.git", "git/https%3A%2F%2Fexample.org%2Frepo.git/HEAD"),
    ("gist", "https://gist.github.com/ada/0123456789abcdef", "gist/ada/0123456789abcdef/HEAD"),
]
"""What a person types into BinderHub's form, and the spec that it makes."""


async def read_config(web: WebApp, http: aiohttp.ClientSession) -> dict[str, dict[str, Any]]:
    async with http.get(web.start(SmallLaunch([]), providers=PROVIDERS) + "/api/repoproviders") as response:
        assert response.content_type == "application/json"
        return {each["id"]: each for each in await response.json()}


def python(regex: str) -> str:
    """Return a JavaScript regular expression in Python's form."""
    return regex.replace("(?<repo>", "(?P<repo>")


async def test_each_kind_has_the_keys_that_binderhubs_form_reads(web: WebApp, http: aiohttp.ClientSession) -> None:
    """Its type `Provider`, in binderhub/static/js/App.jsx."""
    config = await read_config(web, http)
    assert list(config) == [provider.name for provider in PROVIDERS]
    for each in config.values():
        assert set(each) - {"detect"} == {"id", "displayName", "repo", "ref", "spec"}
        assert set(each["repo"]) == {"label", "placeholder", "urlEncode"} and isinstance(
            each["repo"]["urlEncode"], bool
        )
        assert each["ref"] in ({"enabled": False}, {"enabled": True, "default": "HEAD"})
        assert set(each["spec"]) == {"validateRegex"} and set(each.get("detect", {"regex"})) == {"regex"}


@pytest.mark.parametrize(("kind", "typed", "spec"), TYPED)
async def test_the_form_makes_links_that_launch(
    web: WebApp, http: aiohttp.ClientSession, kind: str, typed: str, spec: str
) -> None:
    """As binderhub-react-components/src/LinkGenerator.jsx and the routes of App.jsx do it."""
    config = (await read_config(web, http))[kind]
    if "detect" in config:
        found = re.search(python(config["detect"]["regex"]), typed)
        assert found and found["repo"]
        typed = found["repo"]
    repo = quote(typed, safe="") if config["repo"]["urlEncode"] else typed
    made = f"{kind}/{repo}/{config['ref']['default']}"
    assert made == spec
    assert re.fullmatch(python(config["spec"]["validateRegex"]), made.partition("/")[2])
    (provider,) = (each for each in PROVIDERS if each.name == kind)
    provider.parse(made.partition("/")[2])


@pytest.mark.parametrize(
    ("kind", "spec"), [("gh", "org/HEAD"), ("gist", "ada"), ("gl", "group%2Fproject"), ("git", "x")]
)
async def test_the_form_refuses_incomplete_specs(
    web: WebApp, http: aiohttp.ClientSession, kind: str, spec: str
) -> None:
    config = (await read_config(web, http))[kind]
    assert not re.fullmatch(config["spec"]["validateRegex"], spec)


async def test_api_only_mode_has_the_endpoints_for_programs(web: WebApp, http: aiohttp.ClientSession) -> None:
    url = web.start(SmallLaunch(good_events("/user/sst-abc/")), api_only=True)
    for path in ("/health", "/versions", "/metrics", "/api/repoproviders"):
        async with http.get(url + path) as response:
            assert response.status == 200, path
    async with http.get(exactly(url + BUILD), headers={"Accept": "text/event-stream"}) as response:
        assert '"ready"' in await response.text()


@pytest.mark.parametrize(
    "path",
    ["/", "/about", BUILD.replace("/build/", "/v2/"), "/repo/a/b", "/badge.svg", "/static/style.css", "/user/gone/lab"],
)
async def test_api_only_mode_has_no_pages(web: WebApp, http: aiohttp.ClientSession, path: str) -> None:
    url = web.start(SmallLaunch([]), api_only=True) + path
    async with http.get(exactly(url), headers={"Accept": "text/html"}, allow_redirects=False) as response:
        assert (response.status, response.content_type) == (404, "application/json")
        assert "Content-Security-Policy" in response.headers


def test_api_only_mode_needs_launches_without_a_page(web: WebApp) -> None:
    with pytest.raises(ValueError, match="API-only mode has no pages"):
        web.start(SmallLaunch([]), api_only=True, limits=Limits("key", require_build_token=True))
