"""Keys and certificates of a test cluster, and the kubeconfig files that carry them."""

from __future__ import annotations

import datetime
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = datetime.timedelta(days=2)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority of one cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = _name("cluster", "")
        self._certificate = (
            _builder(name, name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = folder / "ca.crt"
        self.certificate.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, user: str, group: str = "", addresses: tuple[str, ...] = ()) -> Identity:
        """Return a certificate for `user` of `group`, valid for a server at `addresses` (names and IP addresses)."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = _builder(_name(user, group), self._certificate.subject, key).add_extension(
            x509.ExtendedKeyUsage(usages), critical=False
        )
        if addresses:
            names = x509.SubjectAlternativeName([_general(address) for address in addresses])
            builder = builder.add_extension(names, critical=False)
        file = self.folder / user.replace(":", "-")
        certificate = file.with_suffix(".crt")
        signed = builder.sign(self._key, hashes.SHA256())
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return Identity(certificate, _write_key(key, file.with_suffix(".key")))

    def signing_key(self) -> Path:
        """Return a new key for service account tokens."""
        return _write_key(rsa.generate_private_key(65537, 2048), self.folder / "service-accounts.key")

    def kubeconfig(self, server: str, name: str, user: dict[str, str]) -> Path:
        """Write a kubeconfig with which `user` (a kubeconfig user entry) reaches `server`."""
        path = self.folder / f"{name.replace(':', '-').replace('/', '-')}.kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "test", "cluster": {"server": server, "certificate-authority": str(self.certificate)}},
            ],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        }
        path.write_text(json.dumps(content))
        path.chmod(0o600)
        return path

    def kubeconfig_of(self, server: str, user: str, group: str = "") -> Path:
        """Write a kubeconfig for a new certificate of `user`.

        It refers to files, because Python's client writes inline keys into temporary files, which remain after a kill.
        """
        identity = self.issue(user, group)
        entry = {"client-certificate": str(identity.certificate), "client-key": str(identity.key)}
        return self.kubeconfig(server, user, entry)


def _name(user: str, group: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    if group:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(parts)


def _general(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _LIFE)
    )


def _write_key(key: Key, path: Path) -> Path:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    path.chmod(0o600)
    return path
