"""Makes the key by which one launch's client, scheduler and workers authenticate each other and encrypt their traffic.

A scheduler runs all code that it receives, so a client of another launch's scheduler could act as that launch. Runs in
the hub. The certificate is self-signed and its own authority: the holder of the key belongs to the cluster. Dask reads
PEM texts from its configuration's variables (https://distributed.dask.org/en/stable/tls.html).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_TLS = "DASK_DISTRIBUTED__COMM__TLS__"
_BACKDATED = datetime.timedelta(hours=1)
"""Clocks of nodes differ."""


def new_keys(age_seconds: float) -> Mapping[str, str]:
    """Return Dask's variables for all roles of a new cluster that lives for at most `age_seconds`."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    certificate = _certificate(key, datetime.timedelta(seconds=age_seconds)).decode()
    keys = {f"{_TLS}CA_FILE": certificate}
    for role in ("CLIENT", "SCHEDULER", "WORKER"):
        keys[f"{_TLS}{role}__KEY"] = private
        keys[f"{_TLS}{role}__CERT"] = certificate
    return MappingProxyType(keys)


def _certificate(key: ec.EllipticCurvePrivateKey, age: datetime.timedelta) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dask")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + age + _BACKDATED)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)
