"""Tests of ops.uploads on a server of S3."""

import boto3
import pytest

from ops import uploads
from ops.uploads import main
from tests.network import free_port
from tests.object_store.fixtures import use_server

STARTED = "2010-11-10T20:48:33Z"  # of every upload to moto


@pytest.fixture
def name(bucket):
    return bucket.url.removeprefix("s3://")


def begin_upload(name, key, *parts):
    client = boto3.client("s3")
    upload = client.create_multipart_upload(Bucket=name, Key=key)["UploadId"]
    for number, data in enumerate(parts, 1):
        client.upload_part(Bucket=name, Key=key, UploadId=upload, PartNumber=number, Body=data)


def printed(capsys, *arguments):
    assert main([*arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_unfinished_uploads_are_listed_with_size_and_start(name, capsys):
    begin_upload(name, "team/weights/a", b"12345", b"678")
    begin_upload(name, "team/weights/b")
    assert printed(capsys, f"s3://{name}/team") == [
        f"{STARTED}                8 bytes  s3://{name}/team/weights/a",
        f"{STARTED}                0 bytes  s3://{name}/team/weights/b",
        "2 unfinished uploads, 0 aborted.",
    ]


def test_old_uploads_are_aborted(name, capsys):
    begin_upload(name, "team/weights/a", b"12345")
    assert printed(capsys, f"s3://{name}/team", "--abort") == [
        f"{STARTED}                5 bytes  s3://{name}/team/weights/a  aborted",
        "1 unfinished upload, 1 aborted.",
    ]
    assert printed(capsys, f"s3://{name}/team") == ["0 unfinished uploads, 0 aborted."]


def test_uploads_of_the_last_hours_are_not_aborted(name, capsys):
    begin_upload(name, "team/weights/a")
    century = str(100 * 365 * 24)
    assert printed(capsys, f"s3://{name}", "--abort", "--older-than", century) == [
        f"{STARTED}                0 bytes  s3://{name}/team/weights/a",
        "1 unfinished upload, 0 aborted.",
    ]


def test_uploads_elsewhere_in_the_bucket_are_left_alone(name, capsys):
    begin_upload(name, "team_2/weights/a")
    begin_upload(name, "team")
    assert printed(capsys, f"s3://{name}/team", "--abort") == ["0 unfinished uploads, 0 aborted."]
    assert printed(capsys, f"s3://{name}")[-1] == "2 unfinished uploads, 0 aborted."


def test_finished_objects_are_left_alone(bucket, name, capsys):
    bucket.put("team/weights/a", b"whole")
    assert printed(capsys, f"s3://{name}", "--abort") == ["0 unfinished uploads, 0 aborted."]
    assert bucket.objects() == {"team/weights/a": b"whole"}


def test_an_upload_that_is_completed_meanwhile_is_left_out(name, capsys, monkeypatch):
    begin_upload(name, "team/weights/a")
    size = uploads._size

    def complete_first(client, bucket, key, upload):
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
        return size(client, bucket, key, upload)

    monkeypatch.setattr(uploads, "_size", complete_first)
    assert printed(capsys, f"s3://{name}", "--abort") == ["0 unfinished uploads, 0 aborted."]


def test_a_bucket_that_does_not_exist_is_one_error_and_exit_code_1(bucket, capsys):
    assert main(["s3://no-such-bucket/team"]) == 1
    assert capsys.readouterr() == (
        "",
        "error: s3://no-such-bucket/team: An error occurred (NoSuchBucket) when calling the "
        "ListMultipartUploads operation: The specified bucket does not exist\n",
    )


def test_a_server_that_cannot_be_reached_is_one_error_and_exit_code_1(monkeypatch, capsys):
    url = f"http://127.0.0.1:{free_port()}"
    use_server(monkeypatch, url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert main(["s3://bucket/team"]) == 1
    assert capsys.readouterr().err.startswith("error: s3://bucket/team: Could not connect to ")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("artifacts", "expected the address of an object store"),
        (
            "gs://bucket/team",
            "gs://bucket/team: expected an address of S3. Azure deletes parts after a week; for "
            "Google Cloud Storage, set the lifecycle rule AbortIncompleteMultipartUpload.",
        ),
    ],
)
def test_another_address_is_a_usage_error(address, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main([address])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("hours", ["-1", "nan", "1e9", "a day"])
def test_an_age_that_is_no_number_of_hours_is_a_usage_error(hours, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["s3://bucket/team", f"--older-than={hours}"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(
        f"argument --older-than: expected a number of hours from 0, found {hours!r}.\n"
    )
