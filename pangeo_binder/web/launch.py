"""The launch page: `/v2/<provider>/<spec>`, and the redirect of Binder's oldest links (`/repo/<org>/<repo>`).

The page itself starts no launch; its script opens the event stream. Binder process.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote, unquote, urlencode

from ..errors import BadLink
from ..model import RepoRef
from ..repos.base import Provider
from ..repos.registry import provider_for
from .handler import BaseHandler
from .urlpath import notebook_of, paths_in, urlpath_of


class LaunchPage(BaseHandler):
    """Page that shows the progress of one launch, then opens its server."""

    asks_after_login = True

    def get(self) -> None:
        id_, spec = self.link("v2/")
        provider = provider_for(self.shared.context.providers, id_)
        ref = provider.parse(spec)
        urlpath = urlpath_of(*paths_in(self.request.query))
        person = self.signed.person.name if self.signed else ""
        build_token = self.shared.limits.build_tokens.issue(f"{id_}/{spec}", self.caller.page, person)
        token = urlencode({"build_token": build_token})
        stream = f"{self.shared.context.base_url}build/{id_}/{spec}?{token}"
        self.set_header("Cache-Control", "no-store")  # a cached page would have an expired build token
        self.allow_forms_to_sessions()
        self.allow("frame-src 'self'")  # the preview
        shown = {"provider": provider, "ref": ref, "urlpath": urlpath, "default": self._default_branch(provider, ref)}
        shown["preview"] = self._preview_of(f"{id_}/{spec}", notebook_of(urlpath), build_token)
        self.page("launch.html", **shown, stream=stream, ask=self._must_ask(ref))

    def _default_branch(self, provider: Provider, ref: RepoRef) -> str:
        """Return the same link for the default branch, which the page offers if the ref is missing; or ''."""
        if ref.ref == "HEAD" or not provider.form.default_ref:
            return ""
        asked = zip(("urlpath", "labpath", "filepath"), paths_in(self.request.query), strict=True)
        query = urlencode([each for each in asked if each[1]], safe="", quote_via=quote)
        spec = provider.spec(replace(ref, ref="HEAD"))
        return f"{self.shared.context.base_url}v2/{provider.name}/{spec}{'?' if query else ''}{query}"

    def _preview_of(self, link: str, notebook: str, build_token: str) -> str:
        """Return the address of the preview of `notebook`; empty if there is none."""
        if not notebook or self.shared.context.preview is None:
            return ""
        query = urlencode({"path": notebook, "build_token": build_token})
        return f"{self.shared.context.base_url}preview/{link}?{query}"

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
