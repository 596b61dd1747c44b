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
DATASET = "doi:10.1234/FK2/ABC"
RESOURCE = "8f7c2f0341ef4180b0dbe97f59130756"
ACTIVITY = "0f64b6fa-2ab9-4b38-a7f8-4d0ea6b9c4b6"


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
        self._dataverse()
        self._hydroshare()
        self._ckan()

    def hosts(self) -> RepositoryHosts:
        """Return the settings of a binder for which all archives are here."""
        return RepositoryHosts(
            doi_resolver=self.url,
            zenodo=self.url,
            figshare=self.url,
            figshare_api=f"{self.url}/v2",
            dataverses=(self.url,),
            hydroshare=self.url,
            ckan_sites=(self.url,),
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

    def _dataverse(self) -> None:
        plain = {"id": 5, "filesize": len(DATA), "md5": "0" * 32, "checksum": {"type": "SHA-1", "value": "0" * 40}}
        table = {"id": 6, "filesize": 99, "md5": "0" * 32, "originalFileName": "b.dta"}
        files = [
            {"label": "a.csv", "directoryLabel": "data/raw", "dataFile": plain},
            {"label": "b.tab", "dataFile": table},
            {"label": "c", "dataFile": {"id": 7, "filesize": 1, "md5": "1" * 32}},
        ]
        version = {"versionNumber": 2, "versionMinorNumber": 1, "files": files}
        self.say(f"/api/datasets/:persistentId?persistentId={DATASET}", {"data": {"id": 1, "latestVersion": version}})
        of_file = {"data": {"datasetVersion": {"datasetPersistentId": DATASET}}}
        self.say(f"/api/files/:persistentId?persistentId={DATASET}/F&returnDatasetVersion=true", of_file)
        self.doi("10.1234/FK2/ABC", f"{self.url}/citation?persistentId={DATASET}")
        self.doi("10.1234/FK2/ABC/F", f"{self.url}/file.xhtml?persistentId={DATASET}/F")

    def _hydroshare(self) -> None:
        dates = [{"type": "created", "start_date": "x"}, {"type": "modified", "start_date": "2024-05-06T07:08:09.123Z"}]
        self.say(f"/hsapi/resource/{RESOURCE}/scimeta/elements", {"dates": dates})
        base, files = f"{self.url}/resource/{RESOURCE}/data/contents", f"/hsapi/resource/{RESOURCE}/files/"
        first = [{"file_name": "a b.csv", "url": f"{base}/sub/a%20b.csv", "size": 7, "content_type": "text/csv"}]
        self.say(files, {"results": first, "next": f"{self.url}{files}?page=2"})
        self.say(f"{files}?page=2", {"results": [{"url": f"{base}/c.csv", "size": 8}], "next": None})
        self.doi(f"10.4211/hs.{RESOURCE}", f"{self.url}/resource/{RESOURCE}")

    def _ckan(self) -> None:
        resources = [
            {"id": "r1", "url": f"{self.url}/download/a.csv", "size": 7},
            {"id": "r2", "url": f"{self.url}/other/A.csv", "size": None},
            {"id": "r3", "url": "https://example.org/"},
            {"id": "r4", "url": ""},
        ]
        result = {"id": "1", "metadata_modified": "2024-05-06T07:08:09.123456", "resources": resources}
        for prefix in ("", "/open"):
            self.say(f"{prefix}/api/3/action/package_show?id=my-data", {"success": True, "result": result})
            shown = {"success": True, "result": {**result, "resources": resources[:1]}}
            self.say(f"{prefix}/api/3/action/activity_data_show?id={ACTIVITY}&object_type=package", shown)


async def resolved(provider: Provider, spec: str) -> Repo:
    """Return what a spec resolves to."""
    return await provider.resolve(provider.parse(spec))


@pytest.fixture
def records(file_server: FileServer) -> Iterator[RecordServer]:
    """The stand-in."""
    yield RecordServer(file_server)
