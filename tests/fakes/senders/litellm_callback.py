"""LiteLLM with the callback of `adapters.client`: mocked calls, every request sent twice.

Sync, async, and both as streams; one that fails and used nothing; then the callback runs once more
for each call. The spool is emptied at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

BASE, TOKEN = sys.argv[1:]
os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_LOG="ERROR")
sys.path.insert(0, str(Path(__file__).parents[3]))

import httpx  # noqa: E402 - the environment comes first
import litellm  # noqa: E402

from adapters.client.blocking import Client  # noqa: E402
from adapters.client.litellm import TallybookLogger  # noqa: E402

METADATA = {
    "user_api_key_org_id": "acme",
    "user_api_key_team_id": "team-7",
    "user_api_key_team_alias": "support desk",
    "user_api_key_alias": "desk key",
    "user_api_key_user_id": "ann",
    "user_api_key_project_id": "desk",
}
USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 500,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 200, "audio_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 120, "audio_tokens": 50},
}


class Twice(httpx.HTTPTransport):
    """A network that delivers everything twice."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and again; give the second answer."""
        request.read()
        super().handle_request(request).read()
        return super().handle_request(request)


class Logger(TallybookLogger):
    """Keeps what it was given."""

    calls: list = []  # noqa: RUF012 - one logger a process

    def _record(self, kwargs):
        self.calls.append(kwargs)
        super()._record(kwargs)


def call(id: str, **more):
    """Return the arguments of a call."""
    response = litellm.ModelResponse(
        id=f"chatcmpl-{id}",
        model="gpt-4o-audio-preview",
        choices=[{"index": 0, "message": {"role": "assistant", "content": "hello you"}}],
        usage=litellm.Usage(**USAGE),
    )
    return {
        "model": "openai/gpt-4o-audio-preview",
        "messages": [{"role": "user", "content": "hi"}],
        "mock_response": response,
        "litellm_call_id": id,
        "metadata": dict(METADATA),
        **more,
    }


STREAM = {"stream": True, "stream_options": {"include_usage": True}}


async def asked() -> None:
    """Make the calls of an async gateway."""
    await litellm.acompletion(**call("async"))
    async for _ in await litellm.acompletion(**call("async-stream", **STREAM)):
        pass
    await asyncio.to_thread(until, 4)


def until(count: int) -> None:
    """Wait until the callback was called so often; LiteLLM does that on threads of its own."""
    for _ in range(600):
        if len(Logger.calls) >= count:
            return
        time.sleep(0.05)
    raise SystemExit(f"the callback was called {len(Logger.calls)} times, not {count}")


def main() -> None:
    """Make every call, repeat every callback, empty the spool."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Client(
            url=BASE, key=TOKEN, spool=f"{folder}/spool", transport=Twice(), spool_fsync=False
        ) as client,
    ):
        logger = Logger(client)
        litellm.callbacks = [logger]
        litellm.completion(**call("sync"))
        until(1)
        for _ in litellm.completion(**call("stream", **STREAM)):
            pass
        until(2)
        asyncio.run(asked())
        with suppress(litellm.RateLimitError):
            litellm.completion(**call("failed") | {"mock_response": "litellm.RateLimitError"})
        until(5)
        for kwargs in list(Logger.calls):
            logger.log_success_event(kwargs, None, None, None)
        empty = client.flush(60)
    sys.stdout.write(json.dumps({"empty": empty, "calls": len(Logger.calls)}) + "\n")


main()
