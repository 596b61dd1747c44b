"""What the web handlers need from the rest of the binder, as one frozen object.

`app.py` fills it in and hands it to `routes`; the handlers know nothing else of the launch pipeline, the providers or
the policy. Not for state: the rate limiter and the templates live in `handler.Site`. Binder process.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from ..events import Event
from ..model import RepoRef
from .limits import Limits


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """One click on a link, as the pipeline takes it."""

    provider: str
    spec: str
    """The part of the link after the provider, still percent-encoded as the browser sent it."""
    network: str
    """The client's network as rules count it: an IPv4 address or an IPv6 /64."""
    origin: str
    """The host whose page asked for the launch."""
    site_url: str
    """How this person reaches the binder's host, such as `https://binder.example.org`, without a path."""


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """What a person needs to know to fill in the form for one kind of repository."""

    id: str
    """The first part of a `/v2/<provider>/<spec>` link."""
    display_name: str
    label: str
    """What the repository field asks for, such as `Git repository URL`."""
    placeholder: str
    default_ref: str = "HEAD"
    """What an empty ref means; empty where this kind has no refs."""
    url_encode: bool = True
    """Whether the repository stands percent-encoded as one part of the link, as `git` has it, or plainly as `gh`."""
    detect: str = ""
    """A JavaScript regular expression whose group `repo` is the repository's name within what was typed."""
    pattern: str = ""
    """A JavaScript regular expression that matches whatever may be a repository; empty for anything."""

    def spec(self, ref: RepoRef) -> str:
        """Return the spec of `ref` for a `/v2/<provider>/<spec>` link."""
        plain = urlsplit(ref.url).path.strip("/").removesuffix(".git")
        repository = quote(ref.url, safe="") if self.url_encode else quote(plain)
        return f"{repository}/{quote(ref.ref)}" if self.default_ref else repository


@dataclass(frozen=True, slots=True)
class Example:
    """A repository the landing page offers."""

    title: str
    description: str
    ref: RepoRef
    urlpath: str = "lab"


@dataclass(frozen=True, slots=True)
class Check:
    """Whether one thing the binder depends on works: the hub, the gateway, the storage."""

    service: str
    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """How the event stream behaves while nothing happens, in seconds."""

    keepalive_seconds: float = 15
    linger_seconds: float = 60
    """How long the stream stays open after its last event, since an EventSource reconnects to one that ends."""


@dataclass(frozen=True, slots=True)
class WebContext:
    """Everything the handlers may ask of the rest of the binder.

    Raises ValueError where a prefix lacks a slash, or an example's provider is not among the providers.
    """

    launch: Callable[[LaunchRequest], AsyncGenerator[Event, None]]
    """The pipeline. Closing the generator ends this follower."""
    parse: Callable[[str, str], RepoRef]
    """Reads a link's provider and spec without looking anything up; raises BadLink."""
    health: Callable[[], Awaitable[Sequence[Check]]]
    limits: Limits
    providers: Mapping[str, ProviderInfo] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    base_url: str = "/"
    """The binder's own prefix: starts and ends with a slash."""
    hub_url: str = "/"
    """The public prefix of the hub's proxy, under which `user/<name>/` lies."""
    ask_first: bool = False
    """Whether a person whom another page sent here is asked before their launch begins: launched code runs as them."""
    notice: str = ""
    """A sentence from the operator, shown on every page."""
    about: tuple[str, ...] = ()
    """Sentences from the operator about what is limited here."""
    files: tuple[str, ...] = ()
    """The files of a repository that environments are built from here; empty for all that repo2docker knows."""
    stream: StreamTimes = StreamTimes()

    def __post_init__(self) -> None:
        for prefix in (self.base_url, self.hub_url):
            if not (prefix.startswith("/") and prefix.endswith("/")):
                raise ValueError(f"the prefix {prefix!r} must start and end with a slash")
        for example in self.examples:
            if example.ref.provider not in self.providers:
                raise ValueError(f"the example {example.title!r} needs the provider {example.ref.provider!r}")
