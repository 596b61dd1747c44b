"""Issues keys of our own S3 front: static environment variables, which also work for clients that never refresh.

The keys are valid exactly as long as the launch, because the front reads the launch table at every request.
The variables are those that boto3, s3fs, obstore, zarr, pandas, GDAL, rclone and arrow read by default.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from ..keys import derive_keys
from ..scope import Scope
from .base import Credentials, Issuer

REGION = "us-east-1"
_AWS_CONFIG = "[default]\ns3 =\n    signature_version = s3v4\n    addressing_style = path\n"
"""Without it boto3 and the AWS CLI presign with version 2 in us-east-1, and connect to `bucket.host`."""


class FrontIssuer(Issuer):
    """Issuer of keys for the S3 front at `endpoint`, an http(s) URL without a path."""

    def __init__(
        self, endpoint: str, master_key: str, config_file: Path, abort_requests: Callable[[str], None]
    ) -> None:
        """Write `config_file` for clients that read AWS_CONFIG_FILE; `abort_requests` aborts a launch's requests."""
        self._endpoint = endpoint.rstrip("/")
        self._master_key = master_key
        self._config_file = config_file
        self._abort_requests = abort_requests
        if not config_file.exists() or config_file.read_text() != _AWS_CONFIG:  # a full disk would leave it empty
            config_file.write_text(_AWS_CONFIG)

    async def issue(self, scope: Scope, expires_at: float) -> Credentials:
        """Return the launch's keys; the same ones at every call."""
        keys = derive_keys(self._master_key, scope.launch_id)
        scratch = f"s3://{scope.scratch.bucket}/{scope.scratch.bare}"
        environment = {
            "AWS_ACCESS_KEY_ID": keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": keys.secret,
            "AWS_SESSION_TOKEN": keys.session_token,
            **self._endpoint_variables(),
            "SCRATCH_BUCKET": scratch,
            "PANGEO_SCRATCH": scratch,
        }
        return Credentials(scratch, environment, expires_at)

    async def revoke(self, launch_id: str) -> None:
        """Abort the launch's running requests; the launch table already refuses its keys."""
        self._abort_requests(launch_id)

    def _endpoint_variables(self) -> dict[str, str]:
        url = urlsplit(self._endpoint)
        plain = url.scheme == "http"
        return {
            "AWS_ENDPOINT_URL": self._endpoint,
            "AWS_ENDPOINT_URL_S3": self._endpoint,
            "AWS_S3_ENDPOINT": url.netloc,
            "AWS_HTTPS": "NO" if plain else "YES",
            "AWS_ALLOW_HTTP": "true" if plain else "false",
            "AWS_VIRTUAL_HOSTING": "FALSE",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(self._config_file),
            "CPL_VSIL_USE_TEMP_FILE_FOR_RANDOM_WRITE": "YES",
            "NO_PROXY": url.hostname or "",
        }
