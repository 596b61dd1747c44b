"""Test that docs/reference/openapi.yaml is what the binder does: its routes, its methods and its answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from jsonschema import Draft202012Validator

from pangeo_binder.repos.registry import make_providers
from pangeo_binder.web.context import Check
from pangeo_binder.web.pages import NotFoundPage
from pangeo_binder.web.routes import routes
from tests.web.test_stream import Stream, events_of
from tests.web.webapp import SmallLaunch, WebApp, bad_events, context_of, exactly, good_events

DOCUMENT: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "docs" / "reference" / "openapi.yaml").read_text()
)
ROUTES = [(pattern, handler) for pattern, handler, _ in routes(context_of(SmallLaunch([])))]
METHODS = ("get", "head", "post", "put", "patch", "delete")


def resolved(node: Any) -> Any:
    """Return `node`, or what its reference names."""
    while isinstance(node, dict) and "$ref" in node:
        found: Any = DOCUMENT
        for key in node["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        node = found
    return node


def sample(path: str) -> str:
    """Return an address of `path`, with the examples of its parameters."""
    for parameter in map(resolved, DOCUMENT["paths"][path].get("parameters", [])):
        path = path.replace(f"{{{parameter['name']}}}", str(parameter.get("example", "")))
    return path


def route_of(address: str) -> tuple[str, type]:
    return next((pattern, handler) for pattern, handler in ROUTES if re.fullmatch(pattern, address))


def check(name: str, body: Any) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(body)


def test_its_schemas_are_valid() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    operations = [operation for path in DOCUMENT["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations if isinstance(operation, dict)]
    assert len(ids) == len(set(ids))


def test_every_path_has_a_route_and_every_route_a_path() -> None:
    found = {path: route_of(sample(path)) for path in DOCUMENT["paths"]}
    assert [path for path, (_, handler) in found.items() if handler is NotFoundPage] == []
    described = {pattern for pattern, _ in found.values()}
    assert [pattern for pattern, handler in ROUTES if pattern not in described and handler is not NotFoundPage] == []


@pytest.mark.parametrize("path", DOCUMENT["paths"])
async def test_the_methods_of_a_path_are_answered(web: WebApp, http: aiohttp.ClientSession, path: str) -> None:
    url = exactly(web.start(SmallLaunch(bad_events()), providers=make_providers()) + sample(path))
    for method in set(METHODS) & set(DOCUMENT["paths"][path]):
        operation = DOCUMENT["paths"][path][method]
        accept = "text/event-stream" if path.startswith("/build") else "application/json"
        async with http.request(method, url, headers={"Accept": accept}, allow_redirects=False) as response:
            answer = resolved(operation["responses"].get(str(response.status), operation["responses"].get("default")))
            assert answer is not None, (method, response.status)
            assert response.content_type in answer.get("content", {response.content_type: None}), method


@pytest.mark.parametrize("events", [good_events("/user/sea/"), bad_events()], ids=["good", "bad"])
async def test_events(web: WebApp, stream: Stream, events: list[Any]) -> None:
    url = web.start(SmallLaunch(events)) + sample("/build/{provider}/{spec}")
    for event in events_of(await stream(url)):
        check("Event", event)


async def test_answers_for_programs(web: WebApp, http: aiohttp.ClientSession) -> None:
    async def health() -> list[Check]:
        return [Check("hub", ok=False, message="does not answer"), Check("Pod quota", True, informs=True)]

    url = web.start(SmallLaunch([]), health=health, providers=make_providers(), examples=())
    headers = {"Accept": "application/json"}
    for path, name in (("/health", "Health"), ("/versions", "Versions"), ("/nowhere", "Error"), ("/user/x/", "Error")):
        async with http.get(url + path, headers=headers) as response:
            check(name, await response.json())
    async with http.get(f"{url}/api/repoproviders") as response:
        providers = await response.json()
    assert len(providers) == len(make_providers())
    for provider in providers:
        check("RepoProvider", provider)
