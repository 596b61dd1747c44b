"""Token service of a registry, like those of public registries."""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from tests.builders.registryserver import PASSWORD, USER, basic


def _plain(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenServer(ThreadingHTTPServer):
    """Server that issues tokens to clients with the right login and records their requests."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens")])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.key.public_key())
        builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        ca = x509.BasicConstraints(ca=True, path_length=None)
        self.certificate = builder.add_extension(ca, critical=True).sign(self.key, hashes.SHA256())
        self.bundle = folder / "tokens.crt"
        self.bundle.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        self.asked: list[dict[str, list[str]]] = []
        self.seconds = 300
        self.for_everyone = False

    @property
    def auth(self) -> dict[str, Any]:
        """The `auth` section of a registry's configuration that sends clients to this server."""
        realm = f"http://127.0.0.1:{self.server_port}/token"
        own = {"realm": realm, "service": "registry", "issuer": "tokens", "rootcertbundle": str(self.bundle)}
        return {"token": own}

    def token(self, scope: str) -> str:
        """Return a signed token that allows `scope`."""
        kind, name, actions = scope.split(":")
        now = int(time.time())
        claims = {"iss": "tokens", "sub": USER, "aud": "registry", "jti": uuid.uuid4().hex, "iat": now, "nbf": now - 60}
        access = [{"type": kind, "name": name, "actions": actions.split(",")}]
        chain = [base64.b64encode(self.certificate.public_bytes(serialization.Encoding.DER)).decode()]
        head = _plain(json.dumps({"typ": "JWT", "alg": "RS256", "x5c": chain}).encode())
        body = _plain(json.dumps({**claims, "exp": now + self.seconds, "access": access}).encode())
        signed = self.key.sign(f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{head}.{body}.{_plain(signed)}"


class _Handler(BaseHTTPRequestHandler):
    server: TokenServer

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.server.asked.append(query)
        known = self.server.for_everyone or self.headers.get("Authorization") == f"Basic {basic(USER, PASSWORD)}"
        body = json.dumps({"token": self.server.token(query["scope"][0])} if known else {}).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def token_server(folder: Path) -> Iterator[TokenServer]:
    """Run a token service on loopback."""
    server = TokenServer(folder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
