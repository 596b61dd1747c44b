"""The DOI resolver: the address that a DOI leads to. Runs in the binder.

API: https://www.doi.org/the-identifier/resources/factsheets/doi-resolution-documentation#5-proxy-server-rest-api
"""

from __future__ import annotations

from urllib.parse import quote

from .api import Api, Asker, ask_once


async def find_address(resolver: str, doi: str, asker: Asker = ask_once) -> str:
    """Return the address of the page that `doi` leads to. Raises RepoNotFound, HostBusy or HostUnavailable."""
    api = Api("The DOI resolver", resolver, asker)
    answer = await api.read(f"{resolver}/api/handles/{quote(doi, safe='/')}")
    with api.documented():
        for value in answer["values"]:
            if value["type"] == "URL":
                return str(value["data"]["value"])
    raise api.not_found()
