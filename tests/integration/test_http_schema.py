"""The schema says what is served."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.http_world import Api, http_world
from openapi_spec_validator import OpenAPIV31SpecValidator

from adapters.http.gate import PUBLIC_PATHS


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """The application over a fresh database."""
    with http_world(database_url) as opened:
        yield opened


def test_the_schema_is_openapi_3_1_and_needs_no_key(api: Api) -> None:
    """A validator that is not ours finds nothing to say."""
    answer = api.get("/openapi.json", key=None)
    assert answer.status_code == 200
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_the_schema_says_which_routes_need_no_key(api: Api) -> None:
    """They are answered without one, and everything else is not."""
    document = api.get("/openapi.json", key=None).json()
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            public = described.get("security", document["security"]) == []
            assert public == (path in PUBLIC_PATHS), path
            answer = api.call(method.upper(), path.replace("{", "").replace("}", ""), key=None)
            assert (answer.status_code == 401) != public, path


def test_every_route_says_which_scopes_open_it(api: Api) -> None:
    """Only the public ones open without any."""
    document = api.get("/openapi.json", key=None).json()
    without = {
        path
        for path, methods in document["paths"].items()
        for described in methods.values()
        if not described.get("x-scopes")
    }
    assert without <= PUBLIC_PATHS
