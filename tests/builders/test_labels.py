"""What an image tells of its repository's request: the same as the checkout told, whatever the repository tries."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pangeo_binder.builders.image_labels import REQUEST_LABEL, labels_of, request_of
from pangeo_binder.builders.kube.builder import KubeBuilder
from pangeo_binder.builders.kube.job import KubeBuildSettings
from pangeo_binder.builders.kube.registry import RegistrySettings
from pangeo_binder.model import ContainerImage
from pangeo_binder.policy.request import RepositoryRequest, RequestInvalid
from tests.builders.registryserver import RegistryServer, run_registry

TEXT = 'server: {cpu: 1}\ndask: {workers: 2}\n# "quoted" $HOME\n'


def _checkout(folder: Path, text: str = TEXT) -> Path:
    (folder / "binder").mkdir()
    (folder / "binder" / "pangeo.yaml").write_text(text)
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryServer]:
    if not shutil.which("docker-registry"):
        pytest.skip("LEFT OUT: no docker-registry here")
    with run_registry(tmp_path / "registry") as server:
        yield server


def test_a_label_holds_what_the_repository_asks(tmp_path: Path) -> None:
    labels = labels_of(_checkout(tmp_path))
    assert request_of(labels).dask.workers == 2 and request_of(labels).server.cpu == 1
    assert not set(labels[REQUEST_LABEL]) & set('"$\\\n ')


def test_without_a_file_the_label_is_there_and_asks_nothing(tmp_path: Path) -> None:
    assert labels_of(tmp_path) == {REQUEST_LABEL: ""}
    assert request_of({REQUEST_LABEL: ""}) == request_of({}) == RepositoryRequest()


def test_mistakes_are_told_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(RequestInvalid, match=r"binder/pangeo\.yaml:1: "):
        labels_of(_checkout(tmp_path, "serve: {cpu: 1}\n"))


@pytest.mark.parametrize("label", ["%%%", base64.b64encode(b"\xff\x00").decode(), base64.b64encode(b"- a").decode()])
def test_an_unreadable_label_is_a_sentence(label: str) -> None:
    with pytest.raises(RequestInvalid):
        request_of({REQUEST_LABEL: label})


async def test_a_builder_reads_the_label_and_asks_for_it_once(registry: RegistryServer, tmp_path: Path) -> None:
    place = RegistrySettings(registry.address, plain_http=True)
    builder = KubeBuilder(KubeBuildSettings(namespace="builds", image="builder:1", registry=place))
    digest = registry.push(place.name, "sea", **labels_of(_checkout(tmp_path)))
    environment = ContainerImage("sea", place.pull_reference(digest))
    assert (await builder.find_request(environment)).dask.workers == 2
    registry.request("DELETE", f"/v2/{place.name}/manifests/{digest}")
    assert (await builder.find_request(replace(environment, id="again"))).dask.workers == 2
    await builder.close()
