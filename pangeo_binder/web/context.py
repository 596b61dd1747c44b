"""What the web handlers need from the rest of the binder, as one frozen object.

`app.py` fills it in and hands it to `routes`; the handlers know nothing else of the launch pipeline, the providers or
the policy. Not for state: the rate limiter and the templates live in `handler.Site`. Binder process.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..events import Event
from ..model import Click, RepoRef
from ..repos.base import Provider
from .limits import Limits


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

    launch: Callable[[Click], AsyncGenerator[Event, None]]
    """The pipeline. Closing the generator ends this follower."""
    providers: tuple[Provider, ...]
    health: Callable[[], Awaitable[Sequence[Check]]]
    limits: Limits
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
            if example.ref.provider not in {provider.name for provider in self.providers}:
                raise ValueError(f"the example {example.title!r} needs the provider {example.ref.provider!r}")
