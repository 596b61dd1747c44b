"""A stand-in of the archives' APIs and of the DOI resolver, with one record of each kind, at one address."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator

import pytest

from pangeo_binder.model import Repo
from pangeo_binder.repos.base import Provider
from pangeo_binder.repos.registry import RepositoryHosts
from tests.repos.fileserver import FileServer, file_server

__all__ = ["file_server"]

DATA = b"height\n"


def zipped() -> bytes:
    """Return a zip as archives make it of a repository: all is in one folder."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("org-repo-1/requirements.txt", "")
        archive.writestr("org-repo-1/notebook.ipynb", "{}")
    return made.getvalue()


class RecordServer:
    """The stand-in; `url` is the address of each archive."""

    def __init__(self, server: FileServer) -> None:
        self.server, self.url = server, server.url
        self._zenodo()
        self._figshare()

    def hosts(self) -> RepositoryHosts:
        """Return the settings of a binder for which all archives are here."""
        return RepositoryHosts(
            doi_resolver=self.url, zenodo=self.url, figshare=self.url, figshare_api=f"{self.url}/v2"
        )

    def say(self, path: str, answer: object) -> None:
        """Store the answer at a path."""
        self.server.files[path] = json.dumps(answer).encode()

    def doi(self, doi: str, address: str) -> None:
        """Register a DOI."""
        values = [{"type": "HS_ADMIN", "data": {}}, {"type": "URL", "data": {"format": "string", "value": address}}]
        self.say(f"/api/handles/{doi}", {"responseCode": 1, "values": values})

    def _zenodo(self) -> None:
        content = zipped()
        self.server.files["/api/records/102/files/repo.zip/content"] = content
        file = {
            "key": "repo.zip",
            "size": len(content),
            "checksum": f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}",
            "links": {"self": f"{self.url}/api/records/102/files/repo.zip/content"},
        }
        self.say("/api/records/102", {"id": 102, "conceptrecid": "100", "files": [file]})
        self.say("/api/records/101", {"id": 101, "files": [{**file, "key": "a.csv"}, {**file, "key": "b.zip"}]})
        self.server.moved["/api/records/100"] = "/api/records/102"
        self.server.moved["/api/records/200/versions/latest"] = "/api/records/102"
        self.doi("10.1234/other", f"{self.url}/records/102")
        self.doi("10.1234/elsewhere", "https://example.org/records/102")


    def _figshare(self) -> None:
        self.say("/v2/articles/7/versions", [{"version": 1, "url": "x"}, {"version": 2, "url": "x"}])
        here = {"id": 1, "name": "a.csv", "size": len(DATA), "download_url": f"{self.url}/ndownloader/1"}
        here |= {"computed_md5": hashlib.md5(DATA, usedforsecurity=False).hexdigest(), "is_link_only": False}
        linked = {"id": 2, "name": "b", "size": 0, "download_url": "https://example.org/b", "is_link_only": True}
        self.say("/v2/articles/7/versions/1", {"files": [{**here, "name": "a.zip", "computed_md5": ""}]})
        self.say("/v2/articles/7/versions/2", {"files": [here, linked]})
        self.doi("10.1234/article", f"{self.url}/articles/dataset/Some_title/7")


async def resolved(provider: Provider, spec: str) -> Repo:
    """Return what a spec resolves to."""
    return await provider.resolve(provider.parse(spec))


@pytest.fixture
def records(file_server: FileServer) -> Iterator[RecordServer]:
    """The stand-in."""
    yield RecordServer(file_server)
