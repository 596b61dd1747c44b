"""The launch page: `/v2/<provider>/<spec>`, and the redirect of links of Binder's first form.

The page itself starts nothing; its script opens the event stream. Binder process.
"""

from __future__ import annotations

from urllib.parse import quote, unquote, urlencode

from ..errors import BadLink
from ..model import RepoRef
from ..repos.registry import provider_for
from .handler import BaseHandler
from .urlpath import urlpath_of


class LaunchPage(BaseHandler):
    """Shows how one launch gets on and enters its server."""

    def get(self) -> None:
        id_, _, spec = self.after("v2/").rstrip("/").partition("/")
        provider = provider_for(self.site.context.providers, id_)
        ref = provider.parse(spec)
        names = ("urlpath", "labpath", "filepath")
        urlpath = urlpath_of(*(self.get_query_argument(name, "", strip=False) for name in names))
        token = urlencode({"build_token": self.site.gate.issue(id_, spec)})
        stream = f"{self.site.context.base_url}build/{id_}/{spec}?{token}"
        self.set_header("Cache-Control", "no-store")  # a page from a cache would hold a stale build token
        self.page("launch.html", provider=provider, ref=ref, urlpath=urlpath, stream=stream, ask=self._must_ask(ref))

    def _must_ask(self, ref: RepoRef) -> bool:
        # `none` is a person's own doing: a typed address, a bookmark, a link in another program
        by_themselves = self.request.headers.get("Sec-Fetch-Site", "") in ("same-origin", "none")
        # the examples are the operator's own: whoever runs this service trusts them
        trusted = any(example.ref.url == ref.url for example in self.site.context.examples)
        return self.site.context.ask_first and not by_themselves and not trusted

    head = get


class LegacyLink(BaseHandler):
    """`/repo/<org>/<repo>[/<ref>]` meant GitHub before there were providers."""

    def get(self) -> None:
        if "gh" not in {provider.name for provider in self.site.context.providers}:
            raise BadLink(
                "This link names a GitHub repository in an old form, which this service does not take.",
                "Make a new link on the front page.",
            )
        org, repo, *ref = self.after("repo/").split("/", 2)
        parts = (org, repo, "".join(ref).strip("/") or "HEAD")
        spec = "/".join(quote(unquote(part)) for part in parts)  # so that nothing but plain parts gets into a header
        query = f"?{self.request.query}" if self.request.query else ""
        self.redirect(f"{self.site.context.base_url}v2/gh/{spec}{query}")

    head = get
