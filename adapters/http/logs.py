"""Logs: one line an event on standard error, as JSON or for people, and no secret in any of them.

Everything goes through here: structlog's loggers and those of the standard library, uvicorn's
among them. Tokens of keys and passwords in database addresses are taken out of the finished line,
so it does not matter which part of it they came from.
"""

from __future__ import annotations

import logging
import re
import sys

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

FORMATS = ("console", "json")
"""How lines may look."""
LEVELS = ("debug", "info", "warning", "error")
"""From which level on lines are written."""
_TOKEN = re.compile(r"(tbk_[A-Za-z]+_[A-Za-z0-9]+_)[A-Za-z0-9_-]+")
_PASSWORD = re.compile(r"(\w+://[^/\s:@]*:)[^@\s]+(@)")
_PASSWORD_PAIR = re.compile(r"(password\s*=\s*)('[^']*'|[^\s'\"]+)", re.IGNORECASE)


def redact(line: str) -> str:
    """Return a line without the secret parts of keys and without passwords."""
    if "tbk_" in line:
        line = _TOKEN.sub(r"\1***", line)
    if "@" in line:
        line = _PASSWORD.sub(r"\1***\2", line)
    if "password" in line:
        line = _PASSWORD_PAIR.sub(r"\1***", line)
    return line


def configure(*, format: str, level: str) -> None:
    """Send this process's logs to standard error.

    Args:
        format: one of `FORMATS`.
        level: one of `LEVELS`; below it nothing is written.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    if format == "json":
        shared.append(structlog.processors.format_exc_info)
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
    root.setLevel(number)
    # uvicorn tells who connects and who leaves; what it does beyond that is told by our own lines.
    logging.getLogger("uvicorn").setLevel(max(number, logging.WARNING))
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


def _render_json(logger: WrappedLogger, name: str, event: EventDict) -> str:
    del logger, name
    return redact(msgspec.json.encode(event, enc_hook=repr).decode())


def _console() -> Processor:
    # The richer formatters show local variables, and with them whatever secret is in one.
    render = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        timestamp_key="at",
        exception_formatter=structlog.dev.plain_traceback,
    )

    def redacted(logger: WrappedLogger, name: str, event: EventDict) -> str:
        return redact(str(render(logger, name, event)))

    return redacted
