"""The kinds of repositories of one binder, and the provider that a link names. Runs in the binder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..addresses import EVERYWHERE, PUBLIC, AddressRules
from ..errors import BadLink
from ..hosts import CANONICAL, HOSTS
from .base import Provider
from .ckan import CkanProvider
from .dataverse import ALL_PUBLIC, DataverseProvider
from .doi import DoiProvider
from .figshare import PUBLIC_FIGSHARE, PUBLIC_FIGSHARE_API, FigshareProvider
from .gist import GistProvider
from .git import GitProvider
from .github import GitHubProvider
from .github_api import PUBLIC_API, GitHubApiSettings
from .gitlab import GitLabProvider
from .hosts import RepositoryPeers
from .hydroshare import PUBLIC_HYDROSHARE, HydroshareProvider
from .private import NONE_SHARED, PrivateRepositories
from .records import PUBLIC_RESOLVER, RecordProvider
from .swh import PUBLIC_SWH, SwhProvider
from .zenodo import PUBLIC_ZENODO, ZenodoProvider


@dataclass(frozen=True, slots=True)
class RepositoryHosts:
    """The addresses of the hosts that links name by a short prefix; empty for a host without such links."""

    github: str = HOSTS["gh"].url
    gist: str = HOSTS["gist"].url
    gitlab: str = HOSTS["gl"].url
    github_api: GitHubApiSettings = PUBLIC_API
    allow_secret_gists: bool = False
    software_heritage: str = PUBLIC_SWH
    doi_resolver: str = PUBLIC_RESOLVER
    """The resolver of DOIs; empty for no `doi` links."""
    zenodo: str = PUBLIC_ZENODO
    figshare: str = PUBLIC_FIGSHARE
    figshare_api: str = PUBLIC_FIGSHARE_API
    dataverses: tuple[str, ...] = (ALL_PUBLIC,)
    hydroshare: str = PUBLIC_HYDROSHARE
    ckan: bool = True
    ckan_sites: tuple[str, ...] = ()
    """Sites of CKAN that may have private addresses."""
    addresses: AddressRules = PUBLIC
    """Which other hosts git may contact."""
    private: PrivateRepositories = NONE_SHARED
    """The private repositories that the operator shares."""

    @property
    def own_api(self) -> GitHubApiSettings:
        """The API of `github`. A GitHub Enterprise has its own, and neither the public one's answers nor its token."""
        host = urlsplit(self.github).hostname or ""
        is_public = CANONICAL.get(host, host) == HOSTS["gh"].name
        if is_public or self.github_api.address != PUBLIC_API.address:
            return self.github_api
        return GitHubApiSettings(f"{self.github.rstrip('/')}/api/v3")

    @property
    def own_addresses(self) -> AddressRules:
        """The rules of `addresses` with these hosts added, as builds need them."""
        return self.addresses.trusting(self.github, self.gist, self.gitlab, self.software_heritage)


def make_providers(hosts: RepositoryHosts = RepositoryHosts(), allow_local: bool = False) -> tuple[Provider, ...]:
    """Return the providers of a binder, the commonest kind first. Raises ValueError for an invalid address.

    With `allow_local` people mostly enter folders of their machine, else repositories of GitHub.
    """
    hosted: list[Provider] = []
    peers = RepositoryPeers()
    addresses = EVERYWHERE if allow_local else hosts.addresses
    tokens = hosts.private.token_file
    if hosts.github:
        hosted.append(GitHubProvider(hosts.github, addresses, hosts.own_api, peers=peers, token_files=tokens))
    if hosts.gist:
        hosted.append(GistProvider(hosts.gist, hosts.github_api, hosts.allow_secret_gists, addresses, peers=peers))
    if hosts.gitlab:
        hosted.append(GitLabProvider(hosts.gitlab, addresses, peers=peers, token_files=tokens))
    archives = _archives(hosts, peers)
    any_address = GitProvider(allow_local, hosts.own_addresses, peers=peers, token_files=tokens)
    return (any_address, *hosted, *archives) if allow_local else (*hosted, any_address, *archives)


def _archives(hosts: RepositoryHosts, peers: RepositoryPeers) -> list[Provider]:
    """Return the providers of archives; `doi` stands before the kinds whose forms accept any DOI."""
    resolver = hosts.doi_resolver or PUBLIC_RESOLVER
    records: list[RecordProvider] = []
    if hosts.zenodo:
        records.append(ZenodoProvider(hosts.zenodo, resolver, peers))
    if hosts.figshare:
        records.append(FigshareProvider(hosts.figshare, hosts.figshare_api, resolver, peers))
    if hosts.dataverses:
        records.append(DataverseProvider(hosts.dataverses, resolver, peers))
    if hosts.hydroshare:
        records.append(HydroshareProvider(hosts.hydroshare, resolver, peers))
    found: list[Provider] = [*records]
    if hosts.doi_resolver and records:
        before = [each for each in records if each.name in ("zenodo", "figshare")]
        found.insert(len(before), DoiProvider(records, resolver, peers))
    if hosts.ckan:
        found.append(CkanProvider(hosts.ckan_sites, peers))
    if hosts.software_heritage:
        found.append(SwhProvider(hosts.software_heritage, peers))
    return found


def provider_for(providers: Iterable[Provider], name: str) -> Provider:
    """Return the provider called `name`. Raises BadLink with the known names."""
    known = {provider.name: provider for provider in providers}
    if name in known:
        return known[name]
    raise BadLink("This service does not know the link's kind of repository.", f"Known kinds: {', '.join(known)}.")
