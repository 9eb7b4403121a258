"""Open an object store with the usual variables and profiles of its provider."""

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from src.errors import truncated_repr
from src.storage.objects.address import Address, without_credentials
from src.storage.objects.errors import RefusedError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["open_store", "server_address"]

TIMEOUTS = {"connect_timeout": "5s", "read_timeout": "20s", "timeout": "120s"}
RETRY_TIMEOUT = timedelta(seconds=60)
_SENT = (  # variables whose values are sent in headers
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
)

_SERVER_VARIABLES = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}


def server_address(scheme: str) -> str | None:
    """Return the address of the server, without credentials; `None` for the provider's."""
    server = _server(scheme)
    return None if server is None else without_credentials(server)


def _server(scheme: str) -> str | None:
    names = _SERVER_VARIABLES.get(scheme, ())
    return next((value for name in names if (value := os.environ.get(name))), None)


def open_store(address: Address, *, max_retries: int) -> "ObjectStore":
    """Return the object store at an address; no request is sent.

    Credentials are those of the usual variables and profiles of the provider.

    Args:
        address: The address.
        max_retries: The number of times that obstore repeats a failed request.

    Raises:
        RefusedError: There are no credentials, or a setting is not valid.
    """
    server = _server(address.scheme)
    _check_settings(address, server)
    try:
        return _open(address, server, max_retries)
    except (BaseError, TypeError, ValueError) as error:
        # Their texts can contain the values of variables.
        raise RefusedError(
            f"{address.url}: the settings of the object store are not valid "
            f"({type(error).__name__}). Check the variables that begin with AWS_, GOOGLE_ or "
            "AZURE_."
        ) from None


def _check_settings(address: Address, server: str | None) -> None:
    """Raise if a request of obstore would end in a panic, which is no error."""
    if server is not None and not _is_server(server):
        raise RefusedError(
            f"{address.url}: the address of the server is "
            f"{truncated_repr(without_credentials(server))}. Expected one such as "
            "https://HOST:PORT or http://HOST:PORT in "
            f"{' or '.join(_SERVER_VARIABLES[address.scheme])}."
        )
    for name in _SENT if address.scheme == "s3" else ():
        value = os.environ.get(name, "")
        if not (value.isascii() and value.isprintable()) or value != value.strip():
            raise RefusedError(
                f"{address.url}: {name} has a space or a line end at one of its ends, or a "
                "character that is not ASCII. Set it without."
            )


def _is_server(server: str) -> bool:
    try:
        parts = urlsplit(server)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0  # raises if it is no port
            and server.isascii()
            and server.isprintable()
            and not set(server) & set(' "<>\\^`{|}?#')
        )
    except ValueError:
        return False


def _open(address: Address, server: str | None, max_retries: int) -> "ObjectStore":
    options: dict[str, Any] = {
        "client_options": {
            **TIMEOUTS,
            "allow_http": server is not None and server.startswith("http://"),
        },
        "retry_config": {"max_retries": max_retries, "retry_timeout": RETRY_TIMEOUT},
        "prefix": address.prefix or None,
    }
    if address.scheme == "s3":
        # Of several variables, obstore would take any.
        options |= {} if server is None else {"endpoint": server}
        return S3Store(address.bucket, **_aws_settings(address), **options)
    if address.scheme == "gs":
        _check_gcp_credentials(address)
        return GCSStore(address.bucket, **options)
    return AzureStore(address.bucket, **options)


def _aws_settings(address: Address) -> dict[str, Any]:
    """Return region and credentials for S3, found where the tools of AWS find them.

    boto3 is imported only if the environment has no access key.
    """
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return {"region": region or "us-east-1"}
    import boto3
    from botocore.exceptions import BotoCoreError, ProfileNotFound
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        session = boto3.Session()
        credentials = session.get_credentials()
    except BotoCoreError as error:
        # Another text can contain what a credential_process has printed.
        reason = str(error) if isinstance(error, ProfileNotFound) else type(error).__name__
        raise RefusedError(
            f"{address.url}: no credentials of AWS: {reason.rstrip('.')}. Correct AWS_PROFILE, or "
            "~/.aws/config and ~/.aws/credentials."
        ) from None
    if credentials is None:
        raise RefusedError(
            f"{address.url}: no credentials of AWS were found. Set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE with a profile of ~/.aws/config."
        )
    return {
        "region": region or session.region_name or "us-east-1",
        "credential_provider": Boto3CredentialProvider(session),
    }


def _check_gcp_credentials(address: Address) -> None:
    """Raise if there are no credentials: obstore would wait for Google's metadata server.

    Raises:
        RefusedError: There are none.
    """
    names = (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
    )
    default = Path("~/.config/gcloud/application_default_credentials.json").expanduser()
    if not any(os.environ.get(name) for name in names) and not default.exists():
        raise RefusedError(
            f"{address.url}: no credentials of Google Cloud were found. Set "
            "GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`."
        )
