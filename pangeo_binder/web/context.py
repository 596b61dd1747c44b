"""What the web handlers need from the rest of the binder, as one frozen object.

`app.py` creates it and passes it to `routes`; the handlers use nothing else of the launch pipeline, the providers or
the policy. Not for state: `handler.Shared` holds the rate limiter and the templates. Binder process.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..events import Event
from ..launch.hub import OwnServer
from ..model import Click, Launch, RepoRef
from ..repos.base import Provider
from .launch_log import LaunchLog
from .limits import Limits
from .oauth import OAuthSettings
from .resume import ResumeLimits


@dataclass(frozen=True, slots=True)
class Example:
    """A repository that the landing page offers."""

    title: str
    description: str
    ref: RepoRef
    urlpath: str = "lab"


@dataclass(frozen=True, slots=True)
class Check:
    """Health of one service that the binder depends on: the hub, the gateway, the storage."""

    service: str
    ok: bool
    message: str = ""
    age_seconds: float = 0
    """How old this result is."""
    informs: bool = False
    """Whether a failure only informs; the binder counts as healthy all the same."""
    counts: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """Intervals of the event stream while no event arrives."""

    keepalive_seconds: float = 15
    linger_seconds: float = 60
    """How long the stream stays open after its last event, because an EventSource reconnects when a stream ends."""


@dataclass(frozen=True, slots=True)
class People:
    """What handlers need where people can sign in."""

    oauth: OAuthSettings
    keys: tuple[str, ...] = field(repr=False)
    """The keys of the binder's cookies, newest first; the same in every replica."""
    sessions: Callable[[str], Awaitable[list[OwnServer]]]
    """Returns the sessions of one person, the newest first."""
    stop: Callable[[Launch], Awaitable[None]]
    """Stops a session of a person."""
    seats: Callable[[str, Sequence[Launch]], list[str]]
    """Returns sentences on what is left of a person's limits, given the person's running launches."""
    is_required: bool = False
    """Whether everybody has to sign in; else those who do not are anonymous."""
    https: bool = True
    """Whether browsers reach the binder by https alone."""


@dataclass(frozen=True, slots=True)
class WebContext:
    """Everything that the handlers may use of the rest of the binder.

    Raises ValueError if a prefix lacks a slash, if an example's provider is not among the providers, or if launches
    need a build token and no page gives one.
    """

    launch: Callable[[Click], AsyncGenerator[Event, None]]
    """The launch pipeline. Closing the generator ends this follower."""
    providers: tuple[Provider, ...]
    health: Callable[[], Awaitable[Sequence[Check]]]
    limits: Limits
    preview: Callable[[RepoRef, str], Awaitable[str]] | None = None
    """Returns a notebook of a repository that is being built as HTML without scripts; None shows no previews."""
    examples: tuple[Example, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    builder_info: Mapping[str, str] = field(default_factory=dict)
    """What the builder says of itself."""
    base_url: str = "/"
    """The binder's URL prefix; it starts and ends with a slash."""
    hub_url: str = "/"
    """The public URL prefix of the hub's proxy; servers are at `<hub_url>user/<name>/`."""
    api_only: bool = False
    """Whether the binder has only endpoints for programs and no pages, so that every answer to a program is JSON."""
    ask_first: bool = False
    """Whether the page asks a user who came from another page before the launch starts: the code runs as that user."""
    login_token: str = field(default="", repr=False)
    """The token without which the binder answers only health, badges and static files; empty if it needs none."""
    notice: str = ""
    """A sentence from the operator, shown on every page."""
    about: tuple[str, ...] = ()
    """Sentences from the operator about the limits of this service."""
    files: tuple[str, ...] = ()
    """The files of a repository that the builder reads; empty for all files that repo2docker reads."""
    stream: StreamTimes = StreamTimes()
    is_stopping: Callable[[], bool] = lambda: False
    """Whether the binder is stopping, and so starts no more launches."""
    people: People | None = None
    """None if nobody can sign in."""
    resume: ResumeLimits = field(default_factory=ResumeLimits)
    launch_log: LaunchLog = field(default_factory=LaunchLog)

    def __post_init__(self) -> None:
        for prefix in (self.base_url, self.hub_url):
            if not (prefix.startswith("/") and prefix.endswith("/")):
                raise ValueError(f"the prefix {prefix!r} must start and end with a slash")
        if self.api_only and self.limits.require_build_token:
            raise ValueError("only launch pages give build tokens, and API-only mode has no pages")
        for example in self.examples:
            if example.ref.provider not in {provider.name for provider in self.providers}:
                raise ValueError(f"the example {example.title!r} needs the provider {example.ref.provider!r}")
