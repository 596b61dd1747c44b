"""Conformance tests of repository providers: links are read strictly, refs are resolved, and provenance is known.

A test of a driver subclasses `ProviderContract` and defines the fixture `provided`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from pangeo_binder.errors import BadLink, RefNotFound, RepoNotFound, UserError
from pangeo_binder.model import Repo
from pangeo_binder.repos.base import Provenance, Provider

SECRET = "correct-horse"
"""The password in the specs of `Provided.secret`."""


@dataclass(frozen=True)
class Provided:
    """A provider and specs as links contain them, of a repository that it reaches."""

    provider: Provider
    typed: str
    """The repository as a person types it into the form."""
    own: tuple[str, ...]
    """Specs of revisions that the repository owns."""
    foreign: tuple[str, ...]
    """Specs of revisions that the host serves at the repository's address but the repository does not own."""
    bad: tuple[str, ...]
    """Specs that must not be accepted."""
    secret: tuple[str, ...]
    """Specs that contain `SECRET`."""
    unknown_ref: str
    """A spec of the repository with a ref that does not exist; empty for a kind without refs."""
    unknown_repository: str
    revision: str
    """A regular expression that matches full revisions."""

    async def repo(self, spec: str) -> Repo:
        """Return what a spec resolves to."""
        return await self.provider.resolve(self.provider.parse(spec))


class ProviderContract:
    """The conformance tests of providers."""

    def test_it_has_a_name_for_links_and_one_for_people(self, provided: Provided) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9]*", provided.provider.name)
        assert provided.provider.display_name
        assert provided.provider.form.label and provided.provider.form.placeholder

    def test_its_form_accepts_the_repository(self, provided: Provided) -> None:
        assert re.search(provided.provider.form.pattern, provided.typed)

    def test_it_reads_the_specs_that_it_writes(self, provided: Provided) -> None:
        for spec in (*provided.own, *provided.foreign):
            ref = provided.provider.parse(spec)
            assert ref.provider == provided.provider.name
            assert provided.provider.parse(provided.provider.spec(ref)) == ref, spec

    def test_it_refuses_bad_specs(self, provided: Provided) -> None:
        assert provided.bad
        for spec in ("", *provided.bad):
            with pytest.raises(BadLink) as refused:
                provided.provider.parse(spec)
                pytest.fail(f"accepted {spec!r}")
            assert refused.value.message and refused.value.hint

    def test_it_refuses_secrets_and_does_not_repeat_them(self, provided: Provided) -> None:
        for spec in provided.secret:
            assert SECRET in spec
            with pytest.raises(BadLink) as refused:
                provided.provider.parse(spec)
            assert SECRET not in f"{refused.value}{refused.value.message}{refused.value.hint}"

    async def test_a_ref_resolves_to_the_same_full_revision(self, provided: Provided) -> None:
        for spec in provided.own:
            ref, first = provided.provider.parse(spec), await provided.repo(spec)
            assert first == await provided.repo(spec)
            assert (first.ref, first.fetch) == (ref, provided.provider.fetch)
            assert re.fullmatch(provided.revision, first.revision), spec

    async def test_an_unknown_ref_is_refused_with_a_suggestion(self, provided: Provided) -> None:
        if not provided.unknown_ref:
            pytest.skip("This kind of repository has no refs.")
        assert (await self.refused(provided, provided.unknown_ref, RefNotFound)).hint

    async def test_an_unknown_repository_is_refused(self, provided: Provided) -> None:
        assert (await self.refused(provided, provided.unknown_repository, RepoNotFound)).message

    @staticmethod
    async def refused(provided: Provided, spec: str, error: type[UserError]) -> UserError:
        """Return the error with which a spec is not resolved."""
        with pytest.raises(error) as refused:
            await provided.repo(spec)
        return refused.value

    @pytest.mark.processes
    async def test_own_revisions_are_known_once_they_were_found(self, provided: Provided) -> None:
        for spec in provided.own:
            repo = await provided.repo(spec)
            found = provided.provider.known_provenance(repo) or await provided.provider.find_provenance(repo)
            assert found == Provenance(), spec
            assert provided.provider.known_provenance(repo) == Provenance(), spec

    @pytest.mark.processes
    async def test_foreign_revisions_have_a_reason(self, provided: Provided) -> None:
        for spec in provided.foreign:
            repo = await provided.repo(spec)
            assert provided.provider.known_provenance(repo) is None, spec
            assert (await provided.provider.find_provenance(repo)).foreign_reason.endswith("."), spec
