"""The S3 front's errors: S3's codes and statuses, and a sentence for the person who reads the traceback.

Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (`QuotaExceeded` is Ceph's,
`InsufficientStorage` is HTTP's, whose status clients do not retry). Not for
converting errors to answers (`answers`).
"""

from __future__ import annotations

import errno

STATUS = {
    "AccessDenied": 403,
    "AuthorizationHeaderMalformed": 400,
    "AuthorizationQueryParametersError": 400,
    "BadDigest": 400,
    "BucketAlreadyOwnedByYou": 409,
    "EntityTooLarge": 400,
    "EntityTooSmall": 400,
    "IncompleteBody": 400,
    "InsufficientStorage": 507,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidPart": 400,
    "InvalidPartOrder": 400,
    "InvalidRange": 416,
    "InvalidRequest": 400,
    "InvalidToken": 403,
    "MalformedXML": 400,
    "MethodNotAllowed": 405,
    "MisdirectedRequest": 421,
    "MissingContentLength": 411,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "NotImplemented": 501,
    "PreconditionFailed": 412,
    "QuotaExceeded": 403,
    "RequestTimeTooSkewed": 403,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "XAmzContentSHA256Mismatch": 400,
}


class S3Error(Exception):
    """A failed request: `code` is a key of STATUS, `message` a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return STATUS[self.code]


def no_such_key(key: str) -> S3Error:
    """Return the error for an object that does not exist."""
    return S3Error("NoSuchKey", f"The object {key!r} does not exist.")


DISK_FULL = "The disk of the storage service is full. Nothing was changed; delete objects, or ask the operator."
_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: OSError) -> bool:
    """Return whether `error` means that the disk, or the process's quota on it, is full."""
    return error.errno in _FULL


def os_error(error: OSError) -> S3Error:
    """Return the error for a failed file operation."""
    if is_full(error):
        return S3Error("InsufficientStorage", DISK_FULL)
    return S3Error("ServiceUnavailable", "The disk of the storage service cannot be used now; try again.")
