"""Whether a server traces: as OpenTelemetry's own environment variables say, and else not at all.

OpenTelemetry's SDK is not imported until it is asked for; it comes with the extra ``otel``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.http.spans import Traces

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
"""The only one that the extra brings."""

_log = logging.getLogger(__name__)


def exporter_of(environment: Mapping[str, str]) -> str:
    """Return where traces go: ``otlp``, ``console``, or "" for nowhere.

    Args:
        environment: with OpenTelemetry's variables; an endpoint alone means ``otlp``.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    named = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not named and any(environment.get(name) for name in ENDPOINTS):
        named = "otlp"
    if named in ("", "none"):
        return ""
    if named not in ("otlp", "console"):
        _log.warning("OTEL_TRACES_EXPORTER is %r; it may be otlp, console or none", named)
        return ""
    protocol = next((environment[name] for name in PROTOCOLS if environment.get(name)), PROTOCOL)
    if named == "otlp" and protocol != PROTOCOL:
        _log.warning("traces are not sent with %r but with %s only", protocol, PROTOCOL)
        return ""
    return named


def open_traces(environment: Mapping[str, str]) -> Traces | None:
    """Return what traces this process, to be closed at its end; None where nothing is to be.

    Args:
        environment: as for `exporter_of`.
    """
    exporter = exporter_of(environment)
    if not exporter:
        return None
    try:
        from adapters.http import spans  # noqa: PLC0415 - OpenTelemetry may not be there
    except ImportError:
        _log.warning(
            "traces are asked for, but what sends them is not installed: "
            "pip install 'tallybook[otel]'"
        )
        return None
    return spans.exporting(exporter, named="OTEL_SERVICE_NAME" in environment)
