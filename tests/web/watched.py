"""A page of a real browser that remembers its requests, console messages and errors."""

from __future__ import annotations

from dataclasses import dataclass, field

from playwright.async_api import Page, Request


@dataclass
class Watched:
    """A page with its requests, console messages and errors."""

    page: Page
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", self._record)
        self.page.on("console", lambda message: self.messages.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))

    def _record(self, request: Request) -> None:
        self.requests.append(request.url)

    def stayed_at(self, origin: str) -> bool:
        """Return whether all requests went to `origin` and the console has no unexpected message."""
        expected = "error: Failed to load resource: the server responded with a status of 404"
        unexpected = [line for line in self.messages if not line.startswith(expected)]
        return not unexpected and all(url.startswith((origin + "/", "data:,")) for url in self.requests)
