"""Requests, replies, and when to repeat: what both clients share. No I/O."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from adapters.client.answers import HoldAnswer, Item
from ledger.domain.errors import InvalidInput, LedgerError, NotFound, Refused, Unavailable

JSON = "application/json"
BATCH = "application/cloudevents-batch+json"
REPEATED = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses after which the same request may succeed."""
WAITS_IN_USE = "idempotency_key_in_use"
_encode = msgspec.json.Encoder(decimal_format="string").encode


class LedgerUnreachable(Unavailable):
    """There was no answer in time; whether the request was carried out is unknown.

    Send it again with the same ids: it is never done twice.
    """

    default_code = "ledger_unreachable"


class NotPermitted(Refused):
    """The key does not open this; the code says why, such as ``invalid_key``."""

    default_code = "not_permitted"


@dataclass(frozen=True, slots=True)
class Call:
    """A request.

    Attributes:
        method: HTTP method.
        path: with its query.
        body: encoded; b"" for none.
        content_type: of the body.
    """

    method: str
    path: str
    body: bytes = b""
    content_type: str = JSON

    def headers(self) -> dict[str, str]:
        """Return the headers that this request has of its own."""
        return {"Content-Type": self.content_type} if self.body else {}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        status: HTTP status.
        body: as it came.
        retry_after_s: how long the server asks to wait; None if it does not say.
    """

    status: int
    body: bytes
    retry_after_s: float | None = None

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], body: bytes) -> Reply:
        """Return a reply; a ``Retry-After`` that is no number of seconds is passed over."""
        given = headers.get("retry-after", "")
        return cls(status, body, float(given) if given.isdigit() else None)

    @property
    def ok(self) -> bool:
        """Return whether the request was carried out."""
        return 200 <= self.status < 300

    def document(self) -> Any:
        """Return the body, decoded; an empty mapping where it is no JSON, as proxies' pages are."""
        try:
            return msgspec.json.decode(self.body) if self.body else {}
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return {}

    @property
    def code(self) -> str:
        """Return the problem's code; ``http_<status>`` where there is none."""
        document = self.document()
        code = document.get("code") if isinstance(document, dict) else None
        return code if isinstance(code, str) else f"http_{self.status}"

    @property
    def repeats(self) -> bool:
        """Return whether the same request may succeed later."""
        return self.status in REPEATED or (self.status == 409 and self.code == WAITS_IN_USE)


def error_of(reply: Reply) -> LedgerError:
    """Return the error that a reply tells of; the same classes that a ledger in process raises."""
    document = reply.document()
    if not isinstance(document, dict):
        document = {}
    code = reply.code
    message = str(document.get("detail") or f"the server answered {reply.status}")
    if reply.status in (401, 403):
        return NotPermitted(message, code=code)
    if reply.status == 404:
        return NotFound(message, code=code)
    if reply.status in (400, 413, 415, 422, 431):
        errors = document.get("errors") or [{}]
        return InvalidInput(message, code=code, pointer=str(errors[0].get("pointer", "")))
    if reply.status == 409:
        return Refused(message, code=code)
    return Unavailable(message, code=code)


@dataclass(frozen=True, slots=True)
class Retry:
    """How a request is repeated: exponential waits with full jitter, until a deadline.

    Attributes:
        deadline_s: after which the caller is told; the request is not repeated any more.
        first_s: upper bound of the first wait.
        most_s: upper bound of any.
    """

    deadline_s: float = 30.0
    first_s: float = 0.1
    most_s: float = 5.0

    def wait_s(self, attempt: int, reply: Reply | None) -> float:
        """Return how long to wait before the next attempt.

        Args:
            attempt: how many were made, from 1.
            reply: to the last one; None if there was none.
        """
        bound = min(self.most_s, self.first_s * 2 ** min(attempt - 1, 20))
        jittered = random.uniform(bound / 2, bound)  # noqa: S311 # spreads load, keeps no secret
        if reply is not None and reply.retry_after_s is not None:
            return max(jittered, reply.retry_after_s)
        return jittered


def hold_answer(reply: Reply) -> HoldAnswer:
    """Return the answer to an operation on a hold.

    Raises:
        LedgerError: the document could not be read, the key does not open this, or the server
            failed. Other codes of docs/spec/holds.md are answers, not errors.
    """
    document = reply.document()
    if reply.ok and isinstance(document, dict) and "status" in document:
        return HoldAnswer.of(document)
    answer = document.get("answer") if isinstance(document, dict) else None
    if reply.status in (404, 409) and isinstance(answer, dict) and "status" in answer:
        return HoldAnswer.of(answer)
    raise error_of(reply)


def items(reply: Reply, count: int) -> list[Item]:
    """Return what became of each event of a batch.

    Raises:
        LedgerError: the batch as a whole was refused, or the answer is of something else.
    """
    document = reply.document()
    found = document.get("items") if reply.ok and isinstance(document, dict) else None
    if not isinstance(found, list) or len(found) != count:
        raise error_of(reply)
    return [Item.of(one) for one in found]


def document_of(reply: Reply) -> Any:
    """Return the document that was asked for.

    Raises:
        LedgerError: there is none; the code says why.
    """
    if not reply.ok:
        raise error_of(reply)
    return reply.document()


def hold_path(hold: str, operation: str = "") -> str:
    """Return the path of a hold, or of an operation on it."""
    path = f"/v2/holds/{part(hold)}"
    return f"{path}/{operation}" if operation else path


def batch(events: Sequence[bytes]) -> Call:
    """Return the request that records events."""
    return Call("POST", "/v2/events", b"[" + b",".join(events) + b"]", BATCH)


def post(path: str, document: Mapping[str, Any], *, tenant: str = "") -> Call:
    """Return a request with a document.

    Args:
        path: encoded.
        document: to be sent.
        tenant: whose ledger; "" for the key's.
    """
    query = f"?{urlencode({'tenant': tenant})}" if tenant else ""
    return Call("POST", path + query, _encode(document))


def get(path: str, parameters: Mapping[str, object]) -> Call:
    """Return a question; parameters that are None or "" are left out."""
    given = {name: str(value) for name, value in parameters.items() if value not in (None, "")}
    return Call("GET", path + (f"?{urlencode(given)}" if given else ""))


def part(id: str) -> str:
    """Return an id as a part of a path."""
    return quote(id, safe="")
