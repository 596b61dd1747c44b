"""Kinds of repositories that an operator wrote for BinderHub, in its setting `repo_providers`.

A class written for BinderHub reads the spec and finds the commit; its URL and its ref are validated as those of a `git`
link before it may find anything, and git fetches the files. Classes whose files git does not fetch are refused at the
start. Runs in the binder, and does not import binderhub. Interface of the classes:
https://binderhub.readthedocs.io/en/latest/reference/repoproviders.html
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic.dataclasses import dataclass

from ..errors import BadLink, HostUnavailable, NotAllowed, UserError
from ..git import GitAccess
from ..model import Click, Link, Repo, RepoRef
from .base import Provider, ProviderForm
from .git import FULL_COMMIT, GitRefs, validate_url
from .listing import list_refs

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z][a-z0-9]{0,31}")
_OWN_MODULE = "binderhub.repoproviders"
_WITHOUT_GIT = {"ZenodoProvider", "FigshareProvider", "HydroshareProvider", "DataverseProvider", "CKANProvider"}
"""BinderHub's classes whose "URL" is not one that git reads."""
_NEEDED = ("get_repo_url", "get_resolved_ref")
_SPECS = 1000


@dataclass(frozen=True, slots=True)
class CustomRef(RepoRef):
    """A repository and ref with the spec that named them, which only its provider can read."""

    spec: str = ""


class CustomProvider(GitRefs):
    """Provider that asks a class written for BinderHub."""

    def __init__(self, name: str, kind: type, config: object, access: GitAccess) -> None:
        """`config` is the application's configuration, from which the class reads its own settings."""
        super().__init__(access)
        self._kind = kind
        self._config = config
        self._resolved: dict[tuple[str, str], str] = {}
        display = getattr(kind, "display_config", None) or {}
        self.name = name  # type: ignore[misc]  # one class for all names
        self.display_name = str(display.get("displayName") or name)  # type: ignore[misc]
        self.link_hint = f"Links of this kind begin with /v2/{name}/."  # type: ignore[misc]
        self.form = _form(self.display_name, display)

    def parse(self, spec: str) -> RepoRef:
        try:
            asked = self._kind(config=self._config, spec=spec)
            url, ref = str(asked.get_repo_url()), str(asked.unresolved_ref or "")
        except Exception as error:
            self._log("read a link", error)
            raise BadLink("The link does not name a repository of this kind.", self.link_hint) from None
        return CustomRef(self.name, validate_url(url, self._access), self.read_ref(ref), spec)

    async def find_revision(self, ref: RepoRef) -> str:
        asked = self._kind(config=self._config, spec=self.spec(ref))
        if asked.is_banned():
            raise NotAllowed("This repository is not allowed here.", "Ask the operator of this binder.")
        try:
            async with asyncio.timeout(self._access.timeout_seconds):
                revision = await asked.get_resolved_ref()
                names_spec = revision and _defines(self._kind, "get_resolved_spec")  # release 0.1.0 does not ask for it
                resolved = str(await asked.get_resolved_spec()) if names_spec else ""
        except Exception as error:
            raise await self._failure(ref, error) from None
        if not revision:
            raise await self._no_ref(ref)
        if not isinstance(revision, str) or not FULL_COMMIT.fullmatch(revision):
            raise await self._failure(ref, ValueError("not a full commit id"))
        self._resolved = dict([*self._resolved.items(), ((ref.url, revision), resolved)][-_SPECS:])
        return revision

    def spec(self, ref: RepoRef) -> str:
        if not isinstance(ref, CustomRef):
            return super().spec(ref)
        repository, _, last = ref.spec.rpartition("/")
        # a link to a missing `main` or `master` is tried at HEAD, which the class reads from the spec
        return f"{repository}/HEAD" if ref.ref == "HEAD" and last in ("main", "master") else ref.spec

    def link(self, click: Click, repo: Repo) -> Link:
        """Return the link; its class knows the spec that stands for one revision."""
        made = super().link(click, repo)
        spec = self._resolved.get((repo.ref.url, repo.revision)) or click.spec
        return Link(made.host, made.request, f"v2/{self.name}/{spec}", made.ref_url)

    async def _failure(self, ref: RepoRef, error: Exception) -> UserError:
        """Return the error for a commit that was not found; if the repository cannot be read, that says so."""
        id_ = self._log("find a commit", error)
        try:
            await list_refs(ref.url, self._access, "HEAD")
        except UserError as unreadable:
            return unreadable
        return HostUnavailable(
            "This binder could not find the repository's commit.", f"Tell its operator this number: {id_}."
        )

    def _log(self, action: str, error: Exception) -> str:
        """Log an error of the operator's class and return its id."""
        id_ = secrets.token_hex(4)
        log.warning("%s: the class of `%s` could not %s", id_, self.name, action, exc_info=error)
        return id_


def _form(name: str, display: Mapping[str, Any]) -> ProviderForm:
    """Return the form that a class describes; those of old releases describe none."""
    repo, ref = display.get("repo") or {}, display.get("ref") or {}
    return ProviderForm(
        label=str(repo.get("label") or name),
        placeholder=str(repo.get("placeholder") or "repository"),
        default_ref=str(ref.get("default") or "HEAD") if ref.get("enabled", True) else "",
        url_encode=bool(repo.get("urlEncode", False)),
        detect=str((display.get("detect") or {}).get("regex") or ""),
    )


def with_custom(
    providers: Iterable[Provider], given: Mapping[str, type], config: Mapping[str, Any], access: GitAccess
) -> tuple[Provider, ...]:
    """Return the providers of a binder whose setting `repo_providers` is `given`.

    BinderHub's own classes under their own names stand for this binder's providers of these names; any other class
    takes the place of the provider of its name. Providers that are not named are left out. Raises ValueError with a
    sentence.
    """
    own = {each.name: each for each in providers}
    chosen: list[Provider] = []
    for name, kind in given.items():
        if name in own and getattr(kind, "__module__", "") == _OWN_MODULE:
            chosen.append(own[name])
            continue
        _check(name, kind, config)
        if name in own:
            log.warning("repo_providers: %s answers links of the kind `%s`", kind.__qualname__, name)
        chosen.append(CustomProvider(name, kind, config, access))
    return tuple(chosen)


def _check(name: str, kind: type, config: Mapping[str, Any]) -> None:
    """Refuse what cannot be used. Raises ValueError with a sentence."""
    begin = f"repo_providers: the class of `{name}`"
    if not _NAME.fullmatch(name):
        raise ValueError(f"repo_providers: the name {name!r} is not a lower-case word of letters and digits.")
    if not inspect.isclass(kind):
        raise ValueError(f"{begin} is not a class.")
    names = {each.__name__ for each in inspect.getmro(kind)}
    if names & _WITHOUT_GIT:
        raise ValueError(f"{begin} names archives; only repositories that git reads can be of a class of your own.")
    if missing := [each for each in _NEEDED if not _defines(kind, each)]:
        raise ValueError(f"{begin} does not define {' and '.join(missing)}.")
    if any("git_credentials" in (config.get(each) or {}) for each in names):
        raise ValueError(f"{begin} has git_credentials; this binder fetches public repositories only.")


def _defines(kind: type, method: str) -> bool:
    """Return whether `kind` or a base, other than BinderHub's base class, defines `method`."""
    owners = [each for each in inspect.getmro(kind) if method in vars(each)]
    return bool(owners) and owners[0].__name__ != "RepoProvider"
