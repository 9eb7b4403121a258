import pytest

from src.storage.objects.errors import RefusedError, translated

SIGNED = "Error performing PUT http://host/b/k?X-Amz-Signature=secret&sig=secret in 3 ms - "
PLACE = {"bucket": "s3://bucket", "server": "http://host:9000"}


def answer(status, code=None):
    """Return an error as obstore makes one from an answer of the server."""
    body = (
        "" if code is None else f": <?xml?><Error><Code>{code}</Code><Message>m</Message></Error>"
    )
    return RuntimeError(f"{SIGNED}Server returned non-2xx status code: {status}{body}")


def message(error):
    found = translated(error, "s3://bucket/x/k", **PLACE)
    return type(found), str(found)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (answer("400 Bad Request", "ExpiredToken"), "the credentials have expired. Renew them."),
        (answer("403 Forbidden", "RequestTimeTooSkewed"), "the clock of this machine differs too"),
        (answer("400 Bad Request", "AuthorizationHeaderMalformed"), "is in another region."),
        (answer("403 Forbidden", "SignatureDoesNotMatch"), "does not accept these credentials."),
        (answer("403 Forbidden", "AccessDenied"), "the credentials lack the right."),
        (answer("403 Forbidden"), "the credentials lack the right."),
        (answer("401 Unauthorized"), "the server does not accept these credentials."),
        (answer("405 Method Not Allowed"), "the server refuses the request (status 405"),
        (RuntimeError("HTTP error: builder error"), "the address of the server cannot be used."),
        (RuntimeError("Encountered object with invalid path: x"), "a name that no file can have"),
    ],
)
def test_an_error_that_would_be_repeated_is_a_refusal_with_what_to_do(error, sentence):
    kind, text = message(error)
    assert kind is RefusedError
    assert text.startswith("s3://bucket/x/k: ")
    assert sentence in text


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("Object at location k not found"),
        answer("404 Not Found", "NoSuchBucket"),
        answer("404 Not Found", "ContainerNotFound"),
    ],
)
def test_a_bucket_that_does_not_exist_is_named(error):
    assert message(error) == (
        RefusedError,
        "s3://bucket: no such bucket at http://host:9000. Create it, or correct the address.",
    )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            answer("503 Slow Down", "SlowDown"),
            "s3://bucket/x/k: the server asks for fewer requests (SlowDown at http://host:9000).",
        ),
        (
            answer("500 Internal Server Error", "InternalError"),
            "s3://bucket/x/k: the server at http://host:9000 answered with an error "
            "(InternalError).",
        ),
        (
            answer("409 Conflict", "ConditionalRequestConflict"),
            "s3://bucket/x/k: the server at http://host:9000 answered with an error "
            "(ConditionalRequestConflict).",
        ),
        (
            RuntimeError("HTTP error: error sending request"),
            "s3://bucket/x/k: no complete answer from the server at http://host:9000. Check the "
            "network and the address of the server.",
        ),
    ],
)
def test_an_error_that_may_be_temporary_is_not_a_refusal(error, text):
    assert message(error) == (OSError, text)


@pytest.mark.parametrize("status", ["400 X", "403 X", "404 X", "412 X", "500 X", "503 X"])
def test_no_message_has_the_signature_of_a_request(status):
    assert "secret" not in message(answer(status))[1]


@pytest.mark.parametrize(
    ("bucket", "end"),
    [
        ("s3://bucket", "of the server. AWS_ENDPOINT_URL is not set."),
        ("gs://bucket", "of the server."),
    ],
)
def test_a_server_that_does_not_answer_may_be_that_of_aws_by_mistake(bucket, end):
    error = RuntimeError("HTTP error: error sending request")
    assert str(translated(error, f"{bucket}/x", bucket=bucket, server=None)).endswith(end)


def test_an_object_that_is_named_like_an_error_is_not_taken_for_one():
    error = str(answer(503)).replace("http://host/b/k", "http://host/b/AccessDenied/k")
    assert message(RuntimeError(error)) == (
        OSError,
        "s3://bucket/x/k: the server asks for fewer requests (status 503 at http://host:9000).",
    )
