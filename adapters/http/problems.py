"""Errors as HTTP answers: RFC 9457 problem documents. The only place that maps codes to HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from ledger.application.access import Forbidden, KeyRefused
from ledger.domain.errors import (
    InvalidInput,
    InvariantViolation,
    LedgerError,
    NotFound,
    Refused,
    Unavailable,
)

CONTENT_TYPE = b"application/problem+json"
TYPE_PREFIX = "urn:tallybook:problem:"
"""A problem's ``type`` is this and its code: docs/spec/errors.md describes each."""

STATUS_BY_CODE: Mapping[str, int] = {
    "invalid_json": 400,
    "invalid_body": 400,
    "invalid_header": 400,
    "invalid_cursor": 400,
    "invalid_tenant": 400,
    "invalid_encoding": 400,
    "unknown_version": 400,
    "idempotency_key_missing": 400,
    "address_not_allowed": 403,
    "not_found": 404,
    "unknown_path": 404,
    "hold_not_found": 404,
    "capture_not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "idempotency_key_in_use": 409,
    "conflict": 409,
    "capture_conflict": 409,
    "body_too_large": 413,
    "too_many_commands": 413,
    "too_many_items": 413,
    "unsupported_media_type": 415,
    "idempotency_key_reused": 422,
    "rate_limited": 429,
    "headers_too_large": 431,
    "pdf_unavailable": 501,
    "server_busy": 503,
    "draining": 503,
    "not_ready": 503,
}
"""Statuses of codes whose class alone does not say; `status_of` knows the rest."""
_CLASSES: tuple[tuple[type[LedgerError], int], ...] = (
    (KeyRefused, 401),
    (Forbidden, 403),
    (InvalidInput, 422),
    (NotFound, 404),
    (Refused, 409),
    (Unavailable, 503),
)
RETRYABLE = frozenset({408, 429, 503})
"""Statuses after which the same request may succeed."""
RETRYABLE_CODES = frozenset(
    {
        "idempotency_key_in_use",
        "account_busy",
        "key_busy",
        "plan_busy",
        "policy_busy",
        "prices_busy",
        "transfer_incomplete",
    }
)
"""Codes after which it may though their status is another: somebody else was faster."""

_encode = msgspec.json.Encoder().encode


class HttpProblem(LedgerError):
    """Something wrong with a request as such, before any rule of the ledger.

    Args:
        message: what is wrong and what would be right.
        code: one of `STATUS_BY_CODE`.
        headers: that the answer carries, lower case.
        close: the connection is of no use any more.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        headers: Sequence[tuple[bytes, bytes]] = (),
        close: bool = False,
    ) -> None:
        super().__init__(message, code=code)
        self.headers = tuple(headers)
        self.close = close


def status_of(error: BaseException) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, LedgerError):
        status = STATUS_BY_CODE.get(error.code)
        if status is not None:
            return status
        if error.code.startswith("exists_with_different_"):
            return 409
        for kind, number in _CLASSES:
            if isinstance(error, kind):
                return number
        return 400
    return 500


def problem(
    *,
    status: int,
    code: str,
    detail: str,
    request_id: str,
    pointer: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """Return a problem document.

    Args:
        status: HTTP status.
        code: stable code.
        detail: what is wrong and what would be right.
        request_id: of the request.
        pointer: JSON pointer of the offending member; None where there is none to point at.
        extra: members beside the standard ones, such as ``violated_policies``.
    """
    document: dict[str, Any] = {
        "type": TYPE_PREFIX + code,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
        "retryable": status in RETRYABLE or code in RETRYABLE_CODES,
    }
    if pointer is not None:
        document["errors"] = [{"pointer": pointer, "code": code, "detail": detail}]
    if extra:
        document |= extra
    return _encode(document)


def problem_of(error: BaseException, request_id: str) -> tuple[int, bytes]:
    """Return status and problem document of anything that was raised.

    What is no error of the ledger's is told to nobody: its text may hold anything.
    """
    status = status_of(error)
    if isinstance(error, LedgerError):
        pointer = error.pointer if isinstance(error, InvalidInput) else None
        return status, problem(
            status=status,
            code=error.code,
            detail=error.message,
            request_id=request_id,
            pointer=pointer,
        )
    if isinstance(error, InvariantViolation):
        code, detail = "integrity", "the ledger does not agree with itself; an operator has to look"
    else:
        code, detail = "internal_error", "the server failed; it has logged why under the request id"
    return status, problem(status=status, code=code, detail=detail, request_id=request_id)


def headers_of(error: BaseException) -> list[tuple[bytes, bytes]]:
    """Return the headers that an error's answer carries."""
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, HttpProblem):
        headers += error.headers
        if status_of(error) == 503 and not error.headers:
            headers.append((b"retry-after", b"1"))
        if error.close:
            headers.append((b"connection", b"close"))
    elif isinstance(error, KeyRefused) and status_of(error) == 401:
        headers.append((b"www-authenticate", b'Bearer realm="tallybook"'))
    elif isinstance(error, Unavailable) and status_of(error) == 503:
        headers.append((b"retry-after", b"1"))
    return headers
