"""Kinds of repositories that operators wrote for BinderHub work here, or the binder does not start."""

from __future__ import annotations

import asyncio
import re
import warnings
from asyncio.subprocess import PIPE
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from traitlets import Unicode
from traitlets.config import Config

from pangeo_binder.app import PangeoBinderHub
from pangeo_binder.errors import BadLink, HostUnavailable, NotAllowed, RefNotFound
from pangeo_binder.git import GitAccess
from pangeo_binder.model import Click, Repo, RepoRef, from_wire, to_wire
from pangeo_binder.repos.base import Provider
from pangeo_binder.repos.custom import CustomProvider, with_custom
from pangeo_binder.repos.github import GitHubProvider
from pangeo_binder.repos.gitlab import GitLabProvider
from tests.contracts.provider import SECRET, Provided, ProviderContract
from tests.repos.gitrepo import Parent, git, make_parent
from tests.repos.test_git_provider import BAD_REFS, BAD_URLS, COMMIT, spec

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from binderhub.repoproviders import GitHubRepoProvider, GitLabRepoProvider, RepoProvider

ACCESS = GitAccess(allow_local=True)


class ShelfProvider(RepoProvider):
    """Repositories on the operator's own shelf: `/v2/shelf/<name>/<branch>`."""

    name = Unicode("Shelf")
    shelf = Unicode(config=True)
    display_config = {
        "displayName": "Our shelf",
        "id": "shelf",
        "repo": {"label": "Name on the shelf", "placeholder": "example: sea"},
        "ref": {"enabled": True, "default": "main"},
    }

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.book, self.unresolved_ref = self.spec.split("/", 1)

    def get_repo_url(self) -> str:
        return f"{self.shelf}/{self.book}"

    async def get_resolved_ref(self) -> str:
        return git("rev-parse", self.unresolved_ref, cwd=Path(self.get_repo_url()))

    async def get_resolved_spec(self) -> str:
        return f"{self.book}/{await self.get_resolved_ref()}"

    def get_build_slug(self) -> str:
        return self.book


class AnywhereProvider(RepoProvider):
    """Repositories at any address, which the class passes to git without a look: `/v2/mine/<quoted URL>/<ref>`."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        quoted, self.unresolved_ref = self.spec.split("/", 1)
        self.url = unquote(quoted)

    def get_repo_url(self) -> str:
        return self.url

    async def get_resolved_ref(self) -> str | None:
        if re.fullmatch("[0-9a-f]{40}", self.unresolved_ref):
            return self.unresolved_ref
        command = ("git", "ls-remote", self.url, self.unresolved_ref)
        listing = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
        listed, said = await listing.communicate()
        if listing.returncode:
            raise RuntimeError(said.decode())
        return listed.decode().split()[0] if listed else None


class BranchProvider(ShelfProvider):
    """A class that resolves nothing to a commit."""

    async def get_resolved_ref(self) -> str:
        return self.unresolved_ref


class SlowProvider(ShelfProvider):
    """A class that never answers."""

    async def get_resolved_ref(self) -> str:
        await asyncio.Event().wait()
        return ""


class UnfinishedProvider(RepoProvider):
    """A class that does not find commits."""

    def get_repo_url(self) -> str:
        return "https://example.org/r"


class ZenodoProvider(ShelfProvider):
    """A class with the name of one whose files git does not fetch."""


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Parent:
    """A repository with own and foreign commits."""
    return make_parent(tmp_path_factory.mktemp("custom") / "parent")


def shelf(parent: Parent, kind: type = ShelfProvider, access: GitAccess = ACCESS, **settings: object) -> CustomProvider:
    config = Config({"ShelfProvider": {"shelf": str(parent.path.parent), **settings}})
    return CustomProvider("shelf", kind, config, access)


@pytest.mark.processes
class TestCustomProvider(ProviderContract):
    """A class that checks nothing: its links are validated as those of git are, before it may find anything."""

    @pytest.fixture
    def provided(self, parent: Parent) -> Provided:
        addresses = (f"https://me:{SECRET}@example.org/r", f"https://{SECRET}@h/r")
        return Provided(
            provider=CustomProvider("mine", AnywhereProvider, Config(), ACCESS),
            typed=str(parent.path),
            own=tuple(spec(parent.path, ref) for ref in ("HEAD", "main", "refs/tags/v1", parent.old)),
            foreign=tuple(spec(parent.path, ref) for ref in ("refs/pull/1/head", parent.foreign, COMMIT)),
            bad=(*map(spec, BAD_URLS), *(spec("https://example.org/r", ref) for ref in BAD_REFS)),
            secret=tuple(map(spec, addresses)),
            unknown_ref=spec(parent.path, "mian"),
            unknown_repository=spec(parent.path / "none"),
            revision="[0-9a-f]{40}",
        )


@pytest.mark.processes
async def test_a_class_of_an_operator_finds_the_repository_and_its_commit(parent: Parent) -> None:
    provider = shelf(parent)
    repo = await provider.resolve(provider.parse("parent/main"))
    commit = git("rev-parse", "main", cwd=parent.path)
    assert (repo.ref.url, repo.ref.ref, repo.revision) == (str(parent.path), "main", commit)
    link = provider.link(Click("shelf", "parent/main", "", "/"), repo)
    assert (link.request, link.persistent_request) == ("v2/shelf/parent/main", f"v2/shelf/parent/{commit}")
    sent = from_wire(Repo, to_wire(repo))
    assert sent == Repo(RepoRef("shelf", str(parent.path), "main"), commit), "what the hub and the builder get"
    assert provider.display_name == "Our shelf" and provider.form.default_ref == "main"


@pytest.mark.processes
async def test_a_link_to_a_missing_main_may_be_resolved_at_the_default_branch(parent: Parent) -> None:
    provider = CustomProvider("mine", AnywhereProvider, Config(), ACCESS)
    named = provider.parse(spec(parent.path, "master"))
    with pytest.raises(RefNotFound):
        await provider.resolve(named)
    repo = await provider.resolve(replace(named, ref="HEAD"))
    assert repo.revision == git("rev-parse", "HEAD", cwd=parent.path)


@pytest.mark.processes
@pytest.mark.parametrize("ref", ["none", "main^{tree}"])
async def test_errors_of_the_class_are_one_sentence(parent: Parent, ref: str) -> None:
    provider = shelf(parent, BranchProvider)
    with pytest.raises(BadLink, match="does not name a repository of this kind"):
        provider.parse("parent")
    if ref == "none":
        with pytest.raises(HostUnavailable, match="could not find the repository's commit") as refused:
            await provider.resolve(provider.parse(f"parent/{ref}"))
        assert "not a full" not in str(refused.value)
    else:
        with pytest.raises(BadLink, match="not a valid git name"):
            provider.parse(f"parent/{ref}")


@pytest.mark.processes
async def test_a_class_that_never_answers_is_given_up(parent: Parent) -> None:
    provider = shelf(parent, SlowProvider, GitAccess(allow_local=True, timeout_seconds=0.5))
    with pytest.raises(HostUnavailable, match="could not find the repository's commit"):
        await provider.resolve(provider.parse("parent/main"))


async def test_banned_specs_of_the_class_are_refused(parent: Parent) -> None:
    provider = shelf(parent, banned_specs=["^parent/.*"])
    with pytest.raises(NotAllowed):
        await provider.resolve(provider.parse("parent/main"))


def test_a_public_binder_reads_no_folder_through_a_class(parent: Parent) -> None:
    with pytest.raises(BadLink, match="does not allow repositories on its own machine"):
        shelf(parent, access=GitAccess()).parse("parent/main")


@pytest.mark.parametrize(
    ("name", "kind", "config", "sentence"),
    [
        ("mine", UnfinishedProvider, {}, "does not define get_resolved_ref"),
        ("mine", ZenodoProvider, {}, "names archives"),
        ("mine", ShelfProvider, {"ShelfProvider": {"git_credentials": "x"}}, "has git_credentials"),
        ("mine", ShelfProvider(spec="a/b"), {}, "is not a class"),
        ("My-Kind", ShelfProvider, {}, "the name 'My-Kind' is not"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(
    name: str, kind: Any, config: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=f"^repo_providers: .*{sentence}.*\\.$"):
        with_custom((), {name: kind}, Config(config), ACCESS)


class TestStart:
    """The setting of a binder."""

    @staticmethod
    def providers(given: dict[str, type] | None) -> tuple[Provider, ...]:
        config = Config()
        config.PangeoBinderHub.cache_dir = "cache"
        if given is not None:
            config.BinderHub.repo_providers = given
        return PangeoBinderHub(config=config)._make_providers()

    def test_without_the_setting_all_kinds_are_this_binders_own(self) -> None:
        found = self.providers(None)
        assert {"gh", "gl", "gist", "git"} <= {each.name for each in found}
        assert not any(isinstance(each, CustomProvider) for each in found)

    def test_binderhubs_classes_stand_for_this_binders_and_others_take_their_place(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        class MyGitHub(GitHubRepoProvider):
            """A subclass with the operator's changes."""

        found = self.providers({"gl": GitLabRepoProvider, "gh": MyGitHub, "shelf": ShelfProvider})
        assert [each.name for each in found] == ["gl", "gh", "shelf"], "a kind that is not named is left out"
        assert isinstance(found[0], GitLabProvider) and not isinstance(found[1], GitHubProvider)
        assert "MyGitHub answers links of the kind `gh`" in caplog.text
        assert found[1].parse("org/repo/main") == found[1].parse(found[1].spec(found[1].parse("org/repo/main")))
        assert found[1].parse("org/repo/main").url == "https://github.com/org/repo"
