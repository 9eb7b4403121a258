"""Requests to a server that is not trusted: the size of an answer is bounded.

Messages of errors have no credentials. The time is not bounded: callers use
`src.diagnosis.finding.run_check`.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from src.rendering.text import one_line

if TYPE_CHECKING:
    import httpx

__all__ = ["Answer", "AnswerError", "LoginError", "Server", "expected_form"]

SECONDS = 10.0  # from one byte to the next
LIMIT = 1 << 24  # bytes of an answer
NOT_PREFECT = "not the API of a Prefect server."


class AnswerError(ValueError):
    """Raised when a server gives no usable answer."""


class LoginError(AnswerError):
    """Raised when a server refuses the credentials, or requires some."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of a server.

    Attributes:
        status: Its HTTP status.
        date: Its time by the clock of the server; `None` if it has no valid one.
        body: Its bytes.
    """

    status: int
    date: datetime | None
    body: bytes

    def json(self) -> Any:
        """Return the JSON of the body.

        Raises:
            LoginError: The status is 401 or 403.
        AnswerError: Another status than 200, or the body is not JSON.
        """
        if self.status in (401, 403):
            raise LoginError(f"{self.status}: the login is refused.")
        if self.status != 200:
            raise AnswerError(f"answered HTTP status {self.status}. Expected 200.")
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise AnswerError(NOT_PREFECT) from error


class Server:
    """The API of a Prefect server.

    Args:
        url: Its URL.
        headers: Headers of each request, with the credentials.
        verify: Whether to check the certificate; or the file with those of the authorities.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str] | None = None, verify: bool | str = True
    ) -> None:
        self.url = url
        # A compressed answer could be small, and huge in memory.
        self._headers = {**(headers or {}), "Accept-Encoding": "identity"}
        self._verify = verify

    def get(self, path: str) -> Answer:
        """Send a GET request; raise `AnswerError` if there is no answer."""
        return self._request("GET", path)

    def post(self, path: str, **body: Any) -> Answer:
        """Send a POST request with JSON; raise `AnswerError` if there is no answer."""
        return self._request("POST", path, body)

    def _request(self, method: str, path: str, body: object = None) -> Answer:
        import ssl

        import httpx  # slow to import

        try:
            verify: ssl.SSLContext | bool
            if isinstance(self._verify, str):
                verify = ssl.create_default_context(cafile=self._verify)
            else:
                verify = self._verify
            with (
                httpx.Client(headers=self._headers, verify=verify, timeout=SECONDS) as client,
                client.stream(method, f"{self.url.rstrip('/')}{path}", json=body) as response,
            ):
                return Answer(response.status_code, _date(response.headers), _body(response))
        except AnswerError:
            raise
        except httpx.ConnectError as error:
            raise AnswerError(f"no server answers: {one_line(error)[:200]}.") from error
        except Exception as error:  # its message can have the URL, or a header
            raise AnswerError(f"no server answers: {type(error).__name__}.") from error


def _body(response: "httpx.Response") -> bytes:
    data = bytearray()
    for piece in response.iter_raw():
        data += piece
        if len(data) > LIMIT:
            raise AnswerError(f"its answer is larger than {LIMIT:,} bytes: {NOT_PREFECT}")
    return bytes(data)


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        found = parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@contextmanager
def expected_form() -> Iterator[None]:
    """Raise `AnswerError` if the block finds a value of another form than it expects."""
    try:
        yield
    except AnswerError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise AnswerError(f"the server answers in an unknown form: {NOT_PREFECT}") from error
