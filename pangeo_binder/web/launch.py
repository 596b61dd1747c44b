"""The launch page: `/v2/<provider>/<spec>`, and the redirect of Binder's oldest links (`/repo/<org>/<repo>`).

The page itself starts no launch; its script opens the event stream. Binder process.
"""

from __future__ import annotations

from urllib.parse import quote, unquote, urlencode

from ..errors import BadLink
from ..model import RepoRef
from ..repos.registry import provider_for
from .handler import CONTENT_SECURITY_POLICY, BaseHandler
from .urlpath import urlpath_of


class LaunchPage(BaseHandler):
    """Page that shows the progress of one launch, then opens its server."""

    asks_after_login = True

    def get(self) -> None:
        id_, spec = self.link("v2/")
        provider = provider_for(self.shared.context.providers, id_)
        ref = provider.parse(spec)
        names = ("urlpath", "labpath", "filepath")
        urlpath = urlpath_of(*(self.get_query_argument(name, "", strip=False) for name in names))
        build_token = self.shared.limits.build_tokens.issue(f"{id_}/{spec}", self.caller.page)
        token = urlencode({"build_token": build_token})
        stream = f"{self.shared.context.base_url}build/{id_}/{spec}?{token}"
        self.set_header("Cache-Control", "no-store")  # a cached page would have an expired build token
        if self.session_domain:  # the page sends the session's token by a form, to the session's own host
            own, sessions = "form-action 'self'", f"form-action 'self' *.{self.session_domain}"
            self.set_header("Content-Security-Policy", CONTENT_SECURITY_POLICY.replace(own, sessions))
        self.page("launch.html", provider=provider, ref=ref, urlpath=urlpath, stream=stream, ask=self._must_ask(ref))

    def _must_ask(self, ref: RepoRef) -> bool:
        # `none` means that the user typed the URL, used a bookmark, or followed a link from another program
        from_here = self.request.headers.get("Sec-Fetch-Site", "") in ("same-origin", "none")
        # the operator chose the examples, and so trusts them
        trusted = any(example.ref.url == ref.url for example in self.shared.context.examples)
        # a user who had to enter the token may have come from any page
        from_here = from_here and self.get_query_argument("ask", "") != "true"
        return self.shared.context.ask_first and not from_here and not trusted

    head = get


class LegacyLink(BaseHandler):
    """Redirect from `/repo/<org>/<repo>[/<ref>]`, which named GitHub repositories before providers existed."""

    def get(self) -> None:
        if "gh" not in {provider.name for provider in self.shared.context.providers}:
            raise BadLink(
                "This link names a GitHub repository in an old form that this service does not support.",
                "Make a new link on the front page.",
            )
        org, repo, *ref = self.after("repo/").split("/", 2)
        parts = (org, repo, "".join(ref).strip("/") or "HEAD")
        spec = "/".join(quote(unquote(part)) for part in parts)  # so that the Location header gets only encoded parts
        query = f"?{self.request.query}" if self.request.query else ""
        self.redirect(f"{self.shared.context.base_url}v2/gh/{spec}{query}")

    head = get
