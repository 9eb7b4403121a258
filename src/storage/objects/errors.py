"""Translate the errors of obstore to `OSError`s of the project, without credentials.

The text of an error of obstore can contain a signed address, so a message has only the code and the
status of the server's answer.
"""

import re

__all__ = ["RefusedError", "UnknownOutcomeError", "code_of", "translated"]

_ADDRESS = re.compile(r"https?://\S+")
_CODE = re.compile("<Code>([A-Za-z]{3,60})</Code>")
_STATUS = re.compile("non-2xx status code: ([0-9]{3})")
_THROTTLED = ("SlowDown", "ServerBusy", "TooManyRequests", "status 429", "status 503")
_TEMPORARY = ("408", "409", "412", "425", "429")  # of the statuses that begin with 4


class RefusedError(PermissionError):
    """Raised when the server would refuse again: no bucket, no right, or no valid credentials."""


class UnknownOutcomeError(OSError):
    """Raised when only a read of the object can decide whether a write took effect.

    Attributes:
        is_precondition_failed: Whether the server answered that the condition does not hold. If a
            proxy repeats a request that took effect, the second answer says so, too.
    """

    def __init__(self, message: str, *, is_precondition_failed: bool = False) -> None:
        super().__init__(message)
        self.is_precondition_failed = is_precondition_failed


_REFUSALS = {
    "ExpiredToken|TokenRefreshRequired|ExpiredAuthenticationToken": (
        "the credentials have expired. Renew them."
    ),
    "RequestTimeTooSkewed|RequestExpired": (
        "the clock of this machine differs too much from the server's. Set it."
    ),
    "incorrectly configured region|AuthorizationHeaderMalformed|PermanentRedirect": (
        "the bucket is in another region. Set AWS_REGION."
    ),
    "InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|AuthenticationFailed": (
        "the server does not accept these credentials. Correct them."
    ),
    "Unauthenticated|status code: 401": (
        "the server does not accept these credentials. Correct them."
    ),
    "PermissionDenied|AccessDenied|status code: 403": (
        "the credentials lack the right. See docs/operations.md for the rights that are needed."
    ),
    "object with invalid path": (
        "an object there has a name that no file can have, such as `a//b` or `a/../b`. Delete it."
    ),
    "builder error": (
        "the address of the server cannot be used. Expected one such as https://HOST:PORT."
    ),
}


def code_of(error: Exception) -> str:
    """Return the code of the server's answer, e.g. `NoSuchKey`; empty if there is none."""
    found = _CODE.search(_ADDRESS.sub("", str(error)))  # a name in an address can be that of a code
    return found[1] if found else ""


def translated(error: Exception, place: str, *, bucket: str, server: str | None) -> OSError:
    """Return the error of the project for one of obstore.

    Args:
        error: The error.
        place: The address of the object.
        bucket: The address of the bucket.
        server: The address of the server, if it is not the usual one.

    Returns:
        A `RefusedError` if the server would refuse again; another `OSError` if a repeated request
        may succeed.
    """
    text = _ADDRESS.sub("", str(error))
    status = _STATUS.search(text)
    found = code_of(error) or (f"status {status[1]}" if status else "")
    at = f" at {server}" if server else ""
    if isinstance(error, FileNotFoundError) or found in ("NoSuchBucket", "ContainerNotFound"):
        return RefusedError(f"{bucket}: no such bucket{at}. Create it, or correct the address.")
    for pattern, sentence in _REFUSALS.items():
        if re.search(pattern, text):
            return RefusedError(f"{place}: {sentence} ({found or type(error).__name__}{at})")
    if found in _THROTTLED:
        return OSError(f"{place}: the server asks for fewer requests ({found}{at}).")
    if found == "NoSuchKey":  # a write on the condition of an ETag
        return OSError(f"{place}: deleted by another process meanwhile ({found}{at}).")
    if status and status[1].startswith("4") and status[1] not in _TEMPORARY:
        return RefusedError(f"{place}: the server refuses the request ({found}{at}).")
    if found:
        return OSError(f"{place}: the server{at} answered with an error ({found}).")
    unset = " AWS_ENDPOINT_URL is not set." if bucket.startswith("s3://") and not server else ""
    return OSError(
        f"{place}: no complete answer from the server{at}. Check the network and the address of "
        f"the server.{unset}"
    )
