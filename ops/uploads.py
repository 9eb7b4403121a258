"""List and abort unfinished uploads to S3.

    python -m ops.uploads s3://bucket/prefix
    python -m ops.uploads s3://bucket/prefix --abort --older-than 24

A large file is uploaded in parts. If the process is killed meanwhile, no file is there, but the
provider keeps the parts, and charges for them, until the upload is aborted.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from src.rendering.text import counted, one_line
from src.storage.objects.address import Address, parse_address

__all__ = ["Upload", "abort", "main", "unfinished"]

DEFAULT_HOURS = 24.0  # longer than any upload takes
MAX_HOURS = 1e6


class Upload(NamedTuple):
    """An unfinished upload.

    Attributes:
        key: The key of the object in its bucket.
        id: Its identifier.
        size: Bytes of the parts that have arrived.
        started: When it began.
    """

    key: str
    id: str
    size: int
    started: datetime


def unfinished(client: Any, address: Address) -> Iterator[Upload]:
    """Yield the unfinished uploads below an address, in the order of the server.

    Args:
        client: A client of boto3 for S3.
        address: The address.

    Raises:
        ClientError, BotoCoreError: The server refused a request, or did not answer.
    """
    prefix = f"{address.prefix}/" if address.prefix else ""
    pages = client.get_paginator("list_multipart_uploads")
    for page in pages.paginate(Bucket=address.bucket, Prefix=prefix):
        for each in page.get("Uploads", ()):
            key, upload = each["Key"], each["UploadId"]
            try:
                size = _size(client, address.bucket, key, upload)
            except client.exceptions.NoSuchUpload:  # completed meanwhile
                continue
            yield Upload(key, upload, size, each["Initiated"])


def _size(client: Any, bucket: str, key: str, upload: str) -> int:
    pages = client.get_paginator("list_parts").paginate(Bucket=bucket, Key=key, UploadId=upload)
    return sum(part["Size"] for page in pages for part in page.get("Parts", ()))


def abort(client: Any, address: Address, upload: Upload) -> None:
    """Delete the parts of an upload; its process, if it runs, fails and starts it again.

    Raises:
        ClientError, BotoCoreError: The server refused the request, or did not answer.
    """
    try:
        client.abort_multipart_upload(Bucket=address.bucket, Key=upload.key, UploadId=upload.id)
    except client.exceptions.NoSuchUpload:  # completed or aborted meanwhile
        return


def main(argv: list[str] | None = None) -> int:
    """Run the command; see `--help`.

    Returns:
        0; 2 if the address or a number is not valid; 1 if the server refused or did not answer.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ops.uploads", description="List and abort unfinished uploads to S3."
    )
    parser.add_argument("address", metavar="ADDRESS", help="s3://bucket/prefix")
    parser.add_argument("--abort", action="store_true", help="abort those that are old")
    parser.add_argument(
        "--older-than",
        type=_hours,
        default=DEFAULT_HOURS,
        metavar="HOURS",
        help="the age from which an upload is old (default: %(default)g)",
    )
    arguments = parser.parse_args(argv)
    try:
        address = parse_address(arguments.address)
    except ValueError as error:
        parser.error(str(error))
    if address.scheme != "s3":
        parser.error(
            f"{address.url}: expected an address of S3. Azure deletes parts after a week; for "
            "Google Cloud Storage, set the lifecycle rule AbortIncompleteMultipartUpload."
        )
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ModuleNotFoundError:
        parser.error("boto3 is not installed. Install the extra `cloud`.")
    region = os.environ.get("AWS_REGION")  # which boto3 does not read
    try:
        client = boto3.client("s3", region_name=region)
        _run(client, address, arguments.abort, arguments.older_than)
    except (BotoCoreError, ClientError) as error:
        print(f"error: {address.url}: {one_line(str(error))}", file=sys.stderr)
        return 1
    return 0


def _hours(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) <= MAX_HOURS:
            return float(text)
    raise argparse.ArgumentTypeError(f"expected a number of hours from 0, found {text!r}.")


def _run(client: Any, address: Address, is_abort: bool, hours: float) -> None:
    limit = datetime.now(UTC) - timedelta(hours=hours)
    found = aborted = 0
    for upload in unfinished(client, address):
        found += 1
        is_aborted = is_abort and upload.started <= limit
        if is_aborted:
            abort(client, address, upload)
            aborted += 1
        print(
            f"{upload.started.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}  {upload.size:>15,} bytes  "
            f"s3://{address.bucket}/{one_line(upload.key)}{'  aborted' if is_aborted else ''}"
        )
    print(f"{counted(found, 'unfinished upload')}, {aborted} aborted.")


if __name__ == "__main__":
    sys.exit(main())
