"""The HTTP application over a database of a test, called in the same process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.testclient import TestClient

from adapters.bootstrap import Tallybook, http_app, open_ledger
from adapters.http.exchange import Exchange
from adapters.http.lifecycle import Lifecycle
from ledger.application.access import SCOPES, Caller, KeyRefused


class FixedKeyring:
    """Knows tokens that a test made up.

    Attributes:
        uses: routes and statuses that were counted, in order.
    """

    def __init__(self) -> None:
        self._callers: dict[str, Caller] = {}
        self.uses: list[tuple[str, str, int]] = []

    def add(
        self, token: str, *, tenant: str | None, scopes: tuple[str, ...] = SCOPES, **members: Any
    ) -> str:
        """Let a token open something; return it."""
        self._callers[token] = Caller(
            key=f"key-{token}", tenant=tenant, scopes=frozenset(scopes), **members
        )
        return token

    def remove(self, token: str) -> None:
        """Let a token open nothing any more."""
        del self._callers[token]

    def cached(self, token: str, address: str) -> Caller | None:
        """Return whose token it is."""
        del address
        if token not in self._callers:
            raise KeyRefused("no such key", code="invalid_key")
        return self._callers[token]

    def authenticate(self, token: str, address: str) -> Caller:
        """Return whose token it is."""
        found = self.cached(token, address)
        if found is None:
            raise KeyRefused("no such key", code="invalid_key")
        return found

    def used(self, caller: Caller, *, route: str, status: int) -> None:
        """Keep a use."""
        self.uses.append((caller.key, route, status))


class Watching:
    """Keeps what was reported of requests."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.failures: list[BaseException] = []

    def finished(self, exchange: Exchange, *, seconds: float, error: BaseException | None) -> None:
        """Keep a request."""
        del seconds
        self.seen.append((exchange.route, exchange.status))
        if error is not None:
            self.failures.append(error)


class Api:
    """A client of the application, with keys for a platform and for two tenants.

    Attributes:
        tallybook: the use cases behind it.
        keyring: of the application.
        observer: of the application.
        lifecycle: of the application.
        client: to be called as a platform, unless a header says otherwise.
    """

    def __init__(self, tallybook: Tallybook) -> None:
        self.tallybook = tallybook
        self.keyring = FixedKeyring()
        self.observer = Watching()
        self.keyring.add("platform", tenant=None)
        self.keyring.add("acme", tenant="acme")
        self.keyring.add("globex", tenant="globex")
        self.lifecycle = Lifecycle()
        self.app = http_app(
            tallybook, keyring=self.keyring, observer=self.observer, lifecycle=self.lifecycle
        )
        self.client = TestClient(self.app, raise_server_exceptions=False)

    def call(self, method: str, path: str, *, key: str | None = "acme", **members: Any) -> Any:
        """Call a route with a key."""
        headers = dict(members.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        return self.client.request(method, path, headers=headers, **members)

    def get(self, path: str, **members: Any) -> Any:
        """Get something."""
        return self.call("GET", path, **members)

    def post(self, path: str, json: Any = None, **members: Any) -> Any:
        """Post a document."""
        return self.call("POST", path, json=json, **members)

    def put(self, path: str, json: Any = None, **members: Any) -> Any:
        """Put a document."""
        return self.call("PUT", path, json=json, **members)


@contextmanager
def http_world(url: str) -> Iterator[Api]:
    """Open a database and the application over it."""
    with open_ledger(url) as tallybook:
        api = Api(tallybook)
        with api.client:
            yield api
