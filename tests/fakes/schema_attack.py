"""Requests made out of a server's own schema, and its answers compared with that."""

from __future__ import annotations

from typing import Any

import hypothesis
import requests
import schemathesis
from fakes.server_process import ServerProcess
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SLOW = frozenset({"/v2/prices/proposals"})
"""Paths that do seconds of work: they are asked once."""
TOLERANT = frozenset({"/v2/events", "/v1/usage"})
"""Paths that answer 200 to a batch with bad items, each of which is told so."""
TOO_LARGE = frozenset({413, 431})
"""Refusals that the check of refusals does not know."""


class Attack:
    """Sends requests to every operation of a server's own schema.

    Args:
        server: that runs.
        token: of the key.
        examples: of each operation, at most.
        known: ids that are there by the names of path parameters: with made up ones nearly every
            answer would be a 404.

    Attributes:
        wrong: what was not as the schema says.
        statuses: that were answered.
    """

    def __init__(
        self, server: ServerProcess, token: str, *, examples: int, known: dict[str, str]
    ) -> None:
        self._schema = schemathesis.openapi.from_url(f"{server.ready['url']}/openapi.json")
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"
        self._limits = hypothesis.settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        self._known = known
        self.wrong: list[str] = []
        self.statuses: set[int] = set()

    def run(self, *, allowed: bool) -> None:
        """Send requests that the schema allows, or does not."""
        mode = GenerationMode.POSITIVE if allowed else GenerationMode.NEGATIVE
        with self._session:
            for result in self._schema.get_all_operations():
                self._operation(result.ok(), mode)

    def _operation(self, operation: Any, mode: GenerationMode) -> None:
        checks: list[Any] = list(CHECKS)
        known: dict[str, str] = {}
        if mode is GenerationMode.POSITIVE:
            known = {one.name: self._known[one.name] for one in operation.path_parameters}
        elif operation.path not in TOLERANT:
            checks.append(negative_data_rejection)

        limits = self._limits
        if operation.path in SLOW:
            limits = hypothesis.settings(limits, max_examples=1)

        @limits
        @hypothesis.given(case=operation.as_strategy(mode, path_parameters=known or None))
        def send(case: schemathesis.Case) -> None:
            answer = case.call(session=self._session)
            self.statuses.add(answer.status_code)
            if answer.status_code not in TOO_LARGE:
                case.validate_response(answer, checks=checks)

        try:
            send()
        except hypothesis.errors.Unsatisfiable:
            return  # nothing about this operation can be wrong
        except (Exception, BaseExceptionGroup) as error:
            self.wrong.append(f"{operation.label}: {error}"[:2000])
