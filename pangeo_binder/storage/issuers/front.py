"""Issues keys of our own S3 front: a static triple in the environment, which even clients that never refresh can use.

The keys live as long as the launch and die at once with it, because the front asks the launch table at every request.
The names of the variables are those boto3, s3fs, obstore, zarr, pandas, GDAL, rclone and arrow read by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from ..keys import triple_of
from ..scope import Scope
from .base import Credentials, Issuer

REGION = "us-east-1"
_AWS_CONFIG = "[default]\ns3 =\n    signature_version = s3v4\n    addressing_style = path\n"
"""Without it boto3 and the AWS CLI presign with version 2 in us-east-1, and ask for `bucket.host`."""


class FrontIssuer(Issuer):
    """Issues keys for the S3 front at `endpoint`, an http(s) URL without a path."""

    def __init__(
        self, endpoint: str, master_key: str, config_file: Path, abort_requests: Callable[[str], None]
    ) -> None:
        """Write `config_file` for clients that read AWS_CONFIG_FILE; `abort_requests` ends a launch's requests."""
        self._endpoint = endpoint.rstrip("/")
        self._master_key = master_key
        self._config_file = config_file
        self._abort_requests = abort_requests
        config_file.write_text(_AWS_CONFIG)

    async def issue(self, scope: Scope, expires_at: float) -> Credentials:
        """Return the launch's keys; always the same ones."""
        keys = triple_of(self._master_key, scope.launch_id)
        scratch = f"s3://{scope.scratch.bucket}/{scope.scratch.bare}"
        environment = {
            "AWS_ACCESS_KEY_ID": keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": keys.secret,
            "AWS_SESSION_TOKEN": keys.session_token,
            **self._where(),
            "SCRATCH_BUCKET": scratch,
            "PANGEO_SCRATCH": scratch,
        }
        return Credentials(scratch, environment, expires_at)

    async def revoke(self, launch_id: str) -> None:
        """Break off what the launch is doing now; its keys are dead already, by the launch table."""
        self._abort_requests(launch_id)

    def _where(self) -> dict[str, str]:
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
