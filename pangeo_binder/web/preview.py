"""The preview of the notebook that a launch opens: `/preview/<provider>/<spec>?path=…`, a frame of the launch page.

Its content is a stranger's. It was sanitised, and the page's policy allows no script, form or request. Binder process.
"""

from __future__ import annotations

from markupsafe import Markup

from ..errors import NotAllowed
from ..repos.registry import provider_for
from .failure import PageNotFound
from .handler import BaseHandler
from .urlpath import validate

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
        "sandbox allow-popups allow-popups-to-escape-sandbox",
    )
)


class PreviewPage(BaseHandler):
    """Page with a notebook of the commit that is being built."""

    async def get(self) -> None:
        provider, spec = self.link("preview/")
        if self.shared.context.preview is None:
            raise PageNotFound("This service shows no previews.", "Open the launch link.")
        person = self.signed.person.name if self.signed else ""
        token = self.get_query_argument("build_token", "")
        tokens = self.shared.limits.build_tokens
        if not tokens.verify(token, f"{provider}/{spec}", self.caller.page, person):
            raise NotAllowed("A preview belongs to a launch page.", "Open the launch link in your browser again.")
        ref = provider_for(self.shared.context.providers, provider).parse(spec)
        path = self.get_query_argument("path", "", strip=False)
        validate(path.replace(":", "_"))
        body = await self.shared.context.preview(ref, path)
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("X-Frame-Options", "SAMEORIGIN")
        self.set_header("Cache-Control", "private, max-age=300")
        self.page("preview.html", body=Markup(body), path=path)  # noqa: S704 -- nh3 sanitised it
