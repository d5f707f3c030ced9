"""Logs: one line an event on standard error, as JSON or for people, and no secret in any of them.

Everything goes through here: structlog's loggers and those of the standard library, uvicorn's
among them. A line that a request causes has its id, whoever writes it. Tokens of keys and passwords
in database addresses are taken out of the finished line, so it does not matter which part of it
they came from. Bodies are kept out by what is written: of an error that is not the ledger's own,
where it was raised and what it says outside of quotation marks, for inside of them libraries show
the values they were given.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from contextvars import ContextVar
from typing import TextIO

import msgspec
import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from ledger.domain.errors import LedgerError

FORMATS = ("console", "json")
"""How lines may look."""
LEVELS = ("debug", "info", "warning", "error")
"""From which level on lines are written."""
REQUEST_ID: ContextVar[str] = ContextVar("tallybook_request_id", default="")
"""Id of the request that is being answered, for every line that is written meanwhile."""
OURS = ("adapters", "ledger")
"""Loggers of our own; of others, which may log what they are given, only warnings are written."""
MAX_MESSAGE_CHARS = 200
_QUOTED = re.compile(r"""(?<!\w)'[^']*'|"[^"]*\"""")
_TOKEN = re.compile(r"(tbk_[A-Za-z]+_[A-Za-z0-9]+_)[A-Za-z0-9_-]+")
_BEARER = re.compile(r"(bearer\s+)[^\s\"',}]+", re.IGNORECASE)
_PASSWORD = re.compile(r"(\w+://[^/\s:@]*:)[^@\s]+(@)")
_PASSWORD_PAIR = re.compile(r"(password\s*=\s*)('[^']*'|[^\s'\"]+)", re.IGNORECASE)


def redact(line: str) -> str:
    """Return a line without the secret parts of keys and without passwords."""
    if "tbk_" in line:
        line = _TOKEN.sub(r"\1***", line)
    line = _BEARER.sub(r"\1***", line)
    if "@" in line:
        line = _PASSWORD.sub(r"\1***\2", line)
    if "password" in line:
        line = _PASSWORD_PAIR.sub(r"\1***", line)
    return line


def trace_of(error: BaseException) -> str:
    """Return where an error and its causes were raised, and what they say without values."""
    parts: list[str] = []
    one: BaseException | None = error
    while one is not None and len(parts) < 10:
        frames = "".join(traceback.format_tb(one.__traceback__))
        parts.append(f"{frames}{type(one).__qualname__}: {_said(one)}")
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "\n\ncaused by:\n\n".join(parts)


def _said(error: BaseException) -> str:
    """Return what an error says, as far as it may be written down."""
    lines = str(error).splitlines() or [""]
    if isinstance(error, LedgerError):
        return f"{error.code}: {lines[0]}"
    # Further lines are where PostgreSQL shows the row that it refuses.
    return _QUOTED.sub("…", lines[0])[:MAX_MESSAGE_CHARS]


def configure(*, format: str, level: str, worker: str = "") -> None:
    """Send this process's logs to standard error.

    Args:
        format: one of `FORMATS`.
        level: one of `LEVELS`; below it nothing is written.
        worker: which of several this process is; "" for one that is none.
    """

    def placed(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        del logger, name
        request_id = REQUEST_ID.get()
        if request_id:
            event.setdefault("request_id", request_id)
        if worker:
            event["worker"] = worker
        return event

    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        placed,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    if format == "json":
        shared.append(structlog.processors.ExceptionRenderer(_trace))
    render: Processor = _render_json if format == "json" else _console()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # uvicorn tells who connects and who leaves; what it does beyond that is told by our own lines.
    root.setLevel(max(number, logging.WARNING))
    for name in OURS:
        logging.getLogger(name).setLevel(number)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=_Lines()),  # type: ignore[arg-type] # as much of a file as is used
        cache_logger_on_first_use=True,
    )


class _Lines:
    """Standard error as it is now; a line is one write, so lines of two threads do not mix."""

    def write(self, text: str) -> int:
        """Write a line."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Let it be seen."""
        sys.stderr.flush()


def _trace(exc_info: ExcInfo) -> str:
    return trace_of(exc_info[1])


def _write_trace(out: TextIO, exc_info: ExcInfo) -> None:
    out.write("\n" + trace_of(exc_info[1]))


def _render_json(logger: WrappedLogger, name: str, event: EventDict) -> str:
    del logger, name
    return redact(msgspec.json.encode(event, enc_hook=repr).decode())


def _console() -> Processor:
    render = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        timestamp_key="at",
        exception_formatter=_write_trace,
    )

    def redacted(logger: WrappedLogger, name: str, event: EventDict) -> str:
        return redact(str(render(logger, name, event)))

    return redacted
