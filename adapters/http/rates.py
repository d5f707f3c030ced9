"""Rate limits: a token bucket a key, counted in this process."""

from __future__ import annotations

from collections.abc import Callable

from adapters.http.problems import HttpProblem
from ledger.application.access import Caller

Headers = list[tuple[bytes, bytes]]


class _Bucket:
    __slots__ = ("at_s", "tokens")

    def __init__(self, tokens: float, at_s: float) -> None:
        self.tokens = tokens
        self.at_s = at_s


class Rates:
    """Lets each key through as often as its limit says.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, caller: Caller) -> Headers:
        """Count a request and return the headers that say how many are left.

        The fields are those of the IETF draft "RateLimit header fields for HTTP": ``q`` requests a
        window of ``w`` seconds, ``r`` left, ``t`` seconds until it is full again.

        Raises:
            HttpProblem: ``rate_limited`` with ``Retry-After``.
        """
        if not caller.per_second:
            return []
        burst = max(caller.burst, 1)
        bucket = self._bucket(caller)
        window_s = max(1, -(-burst // caller.per_second))
        policy = b'"key";q=%d;w=%d' % (burst, window_s)
        if bucket.tokens < 1:
            wait_s = max(1, -int(-(1 - bucket.tokens) // caller.per_second))
            raise HttpProblem(
                f"more than {caller.per_second} requests a second with this key",
                code="rate_limited",
                headers=(
                    (b"retry-after", b"%d" % wait_s),
                    (b"ratelimit-policy", policy),
                    (b"ratelimit", b'"key";r=0;t=%d' % wait_s),
                ),
            )
        bucket.tokens -= 1
        full_s = int((burst - bucket.tokens) / caller.per_second)
        left = b'"key";r=%d;t=%d' % (int(bucket.tokens), full_s)
        return [(b"ratelimit-policy", policy), (b"ratelimit", left)]

    def wait_s(self, caller: Caller) -> float:
        """Count a frame of a stream, if there is room; return how long there is none, else 0."""
        if not caller.per_second:
            return 0.0
        bucket = self._bucket(caller)
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / caller.per_second
        bucket.tokens -= 1
        return 0.0

    def _bucket(self, caller: Caller) -> _Bucket:
        """Return a key's bucket as full as it is now."""
        now_s = self._clock()
        burst = max(caller.burst, 1)
        bucket = self._buckets.get(caller.key)
        if bucket is None:
            # As many buckets as there are keys with a limit; keys are few and issued by hand.
            bucket = self._buckets[caller.key] = _Bucket(burst, now_s)
        else:
            refill = (now_s - bucket.at_s) * caller.per_second
            bucket.tokens = min(burst, bucket.tokens + refill)
            bucket.at_s = now_s
        return bucket
