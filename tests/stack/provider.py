"""A real OAuth 2 provider with a login page, as a process of loopback: accounts, codes with PKCE, tokens, user info.

It checks what providers check: the client and its secret, the redirect address, the code and its verifier. Run by
`LoginStack` as a program of its own: its arguments are the port and the hub's callback.
"""

from __future__ import annotations

import base64
import hashlib
import html
import secrets
import sys
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

CLIENT, SECRET = "hub", "the-secret-of-the-hub-in-these-tests"
ACCOUNTS = {
    "ada": ["staff"],
    "eve": ["guests"],
    "bea": ["guests"],
    "anonymous-sea-abcdefghijkl": [],
}
"""The groups of each account; the password is the name."""
_PAGE = """<!doctype html><title>Provider</title><form method="post">
<input name="name"><input name="password" type="password"><button>Log in</button></form>"""


class Provider:
    """The provider's state."""

    def __init__(self, callback: str) -> None:
        self._callback = callback
        self._codes: dict[str, tuple[str, str]] = {}
        self._tokens: dict[str, str] = {}

    async def page(self, request: web.Request) -> web.Response:
        """Show the login page to a request of the known client."""
        query = request.query
        if (query.get("client_id"), query.get("redirect_uri")) != (CLIENT, self._callback):
            raise web.HTTPBadRequest(text="an unknown client")
        return web.Response(text=_PAGE, content_type="text/html")

    async def log_in(self, request: web.Request) -> web.Response:
        """Check the password, and send the browser back with a code."""
        form = await request.post()
        name = str(form.get("name"))
        if name not in ACCOUNTS or form.get("password") != name:
            raise web.HTTPForbidden(text=html.escape(f"no account {name}"))
        code = secrets.token_urlsafe()
        self._codes[code] = (name, request.query.get("code_challenge", ""))
        raise web.HTTPFound(f"{self._callback}?{urlencode({'code': code, 'state': request.query['state']})}")

    async def token(self, request: web.Request) -> web.Response:
        """Exchange a code, once."""
        form = await request.post()
        if not self._is_client(request, form):
            raise web.HTTPUnauthorized(text="an unknown client")
        name, challenge = self._codes.pop(str(form.get("code")), ("", ""))
        digest = hashlib.sha256(str(form.get("code_verifier", "")).encode()).digest()
        proven = not challenge or base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge
        if not name or not proven or form.get("redirect_uri") != self._callback:
            return web.json_response({"error": "invalid_grant"}, status=400)
        token = secrets.token_urlsafe()
        self._tokens[token] = name
        return web.json_response({"access_token": token, "token_type": "Bearer"})

    @staticmethod
    def _is_client(request: web.Request, form: Any) -> bool:
        basic = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        given = (form.get("client_id"), form.get("client_secret"))
        return request.headers.get("Authorization") == basic or given == (CLIENT, SECRET)

    async def user_info(self, request: web.Request) -> web.Response:
        """Return whose token this is."""
        name = self._tokens.get(request.headers.get("Authorization", "").partition(" ")[2])
        if name is None:
            raise web.HTTPUnauthorized(text="an unknown token")
        return web.json_response({"username": name, "groups": ACCOUNTS[name]})


def main(port: int, callback: str) -> None:
    """Run until stopped."""
    provider, app = Provider(callback), web.Application()
    app.router.add_get("/authorize", provider.page)
    app.router.add_post("/authorize", provider.log_in)
    app.router.add_post("/token", provider.token)
    app.router.add_get("/userinfo", provider.user_info)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
