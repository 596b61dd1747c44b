"""What a person pastes into the form becomes the link of the record: each kind's expressions and its own reading."""

from __future__ import annotations

import re

import pytest

from pangeo_binder.repos.registry import make_providers

ID = "8f7c2f0341ef4180b0dbe97f59130756"
DATASET = "https://dataverse.harvard.edu/dataset.xhtml?persistentId=doi:10.7910/DVN/TJCLKP"


@pytest.mark.parametrize(
    ("typed", "kind", "url"),
    [
        ("https://zenodo.org/records/3242074", "zenodo", "https://zenodo.org/records/3242074"),
        ("http://www.zenodo.org/record/3242074?x=1#y", "zenodo", "https://zenodo.org/records/3242074"),
        ("https://doi.org/10.5281/zenodo.3242074", "zenodo", "https://zenodo.org/records/3242074"),
        ("doi:10.6084/m9.figshare.9782777.v1", "figshare", "https://figshare.com/articles/_/9782777"),
        ("https://figshare.com/articles/dataset/a_b/9782777/2", "figshare", "https://figshare.com/articles/_/9782777"),
        ("https://uni.figshare.com/articles/dataset/a/7", "figshare", "https://figshare.com/articles/_/7"),
        ("https://doi.org/10.7910/DVN/TJCLKP", "doi", "https://doi.org/10.7910/DVN/TJCLKP"),
        (f"{DATASET}&version=2", "dataverse", "https://doi.org/10.7910/DVN/TJCLKP"),
        (f"https://hydroshare.org/resource/{ID}/", "hydroshare", f"https://www.hydroshare.org/resource/{ID}"),
        ("https://demo.ckan.org/dataset/x?activity_id=1", "ckan", "https://demo.ckan.org/dataset/x"),
    ],
)
def test_an_address_is_read_as_its_kind(typed: str, kind: str, url: str) -> None:
    first = next(each for each in make_providers() if each.form.detect and re.search(each.form.pattern, typed))
    assert first.name == kind
    found = re.search(first.form.detect.replace("?<repo>", "?P<repo>"), typed)
    assert first.parse((found and found["repo"]) or typed).url == url
