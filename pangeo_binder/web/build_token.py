"""Build tokens: a launch page's proof that a user opened it, as in BinderHub.

A token is for one link and for pages of one origin, and expires. Clients pass it on as they got it, so its form is our
own; BinderHub's are JSON Web Tokens. Binder process.
"""

from __future__ import annotations

from itsdangerous import BadData, SignatureExpired, URLSafeTimedSerializer

from ..errors import NotAllowed

_SALT = "pangeo-binder/build-token/2"


class BuildTokens:
    """Issues and verifies build tokens, signed by `key`."""

    def __init__(self, key: str | bytes, seconds: int, check_origin: bool = True) -> None:
        self._serializer = URLSafeTimedSerializer(key, salt=_SALT)
        self._seconds = seconds
        self._check_origin = check_origin

    def issue(self, link: str, origin: str, person: str = "") -> str:
        """Return a token for `link`, such as `gh/org/repo/main`, the page's `origin` (host and port) and `person`.

        `person` is empty if nobody was signed in.
        """
        return str(self._serializer.dumps([link, origin, person]))

    def verify(self, token: str, link: str, origin: str, person: str = "") -> bool:
        """Return whether the request has a token of `person`.

        Raises NotAllowed if it is not valid for this link and origin.

        An expired one counts as none, so that a page which lost its connection in a long build can follow it again.
        """
        if not token:
            return False
        try:
            issued = self._serializer.loads(token, max_age=self._seconds)
        except SignatureExpired:
            return False
        except BadData:
            raise _invalid() from None
        if issued[0] != link or (self._check_origin and issued[1] != origin):
            raise _invalid()
        return bool(issued[2] == person)  # the page may have been opened before a login


def _invalid() -> NotAllowed:
    return NotAllowed("The build token is not valid for this launch.", "Open the launch link in your browser again.")
