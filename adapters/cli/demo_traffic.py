"""Invented traffic of three small companies for the demonstration; pure and repeatable.

The same seed and month give the same bytes: nothing here reads a clock or the environment. The
lines are what gateways send, provider responses in envelopes, and what people at a billing desk
send, corrections as CloudEvents. A few are wrong on purpose, in the ways in which real ones are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from adapters.cli import demo_responses as responses
from adapters.cli.demo_responses import Ask, Build
from ledger.domain.errors import InvalidInput

CALLS = 5000
"""Calls of one month, retries and mishaps not counted."""
DUPLICATES = 60
"""Lines that a gateway sends again, byte for byte."""
UNPRICED_MODEL = "tidewater-2-preview"
"""A model that no price list has; invented."""
DESK = "billing-desk"
"""Source of the corrections."""

_OFFICE = (1, 1, 1, 1, 1, 2, 6, 20, 55, 85, 95, 90, 60, 75, 95, 90, 75, 50, 25, 15, 10, 6, 3, 2)
_PORT = (
    32,
    30,
    28,
    25,
    25,
    30,
    45,
    70,
    80,
    75,
    70,
    65,
    60,
    55,
    60,
    65,
    65,
    60,
    55,
    50,
    45,
    40,
    38,
    35,
)
_CLINIC = (0, 0, 0, 0, 0, 0, 1, 8, 60, 95, 100, 90, 40, 20, 55, 85, 95, 90, 60, 20, 4, 1, 0, 0)


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of call that a company makes.

    Attributes:
        weight: how often, beside the others.
        provider: whose format the response has.
        build: makes the response.
        model: as the response names it.
        size: typical size, see `Ask`.
        project: what it is for.
    """

    weight: int
    provider: str
    build: Build
    model: str
    size: int
    project: str


@dataclass(frozen=True, slots=True)
class Company:
    """A tenant of the demonstration.

    Attributes:
        tenant: its name.
        timezone: IANA name, in which its days and months begin.
        source: its gateway.
        share: percentage of all calls.
        hours: how busy each hour of its day is.
        weekdays: how busy each weekday is, Monday first.
        users: who calls.
        works: what it calls.
    """

    tenant: str
    timezone: str
    source: str
    share: int
    hours: Sequence[int]
    weekdays: Sequence[int]
    users: Sequence[str]
    works: Sequence[Work]


_SONNET = "claude-sonnet-4-5-20250929"
_HAIKU = "claude-haiku-4-5-20251001"
_BEDROCK_SONNET = "us.anthropic.claude-sonnet-4-20250514-v1:0"

COMPANIES = (
    Company(
        tenant="acme-robotics",
        timezone="America/Chicago",
        source="gateway-us-1",
        share=46,
        hours=_OFFICE,
        weekdays=(95, 105, 110, 105, 90, 22, 15),
        users=("amara", "bo", "chen", "dana", "eli", "farah", "gus"),
        works=(
            Work(22, "openai", responses.openai_stream, "gpt-4o-mini-2024-07-18", 1800, "support"),
            Work(10, "openai", responses.openai_chat, "gpt-4o-2024-08-06", 2600, "support"),
            Work(10, "openai", responses.openai_tool_call, "gpt-4.1-2025-04-14", 3200, "parts"),
            Work(12, "openai", responses.openai_reasoning, "gpt-5-2025-08-07", 4200, "planning"),
            Work(6, "openai", responses.openai_search, "gpt-5-mini-2025-08-07", 2800, "market"),
            Work(16, "anthropic", responses.anthropic_message, _SONNET, 5200, "firmware"),
            Work(12, "anthropic", responses.anthropic_stream, _SONNET, 4600, "firmware"),
            Work(4, "anthropic", responses.anthropic_search, _HAIKU, 2200, "market"),
            Work(8, "groq", responses.groq_stream, "llama-3.3-70b-versatile", 1500, "editor"),
        ),
    ),
    Company(
        tenant="blue-harbor",
        timezone="Europe/Lisbon",
        source="gateway-eu-1",
        share=34,
        hours=_PORT,
        weekdays=(100, 100, 95, 100, 105, 70, 55),
        users=("hugo", "irene", "joana", "kai", "luis"),
        works=(
            Work(24, "google", responses.gemini, "gemini-2.5-flash", 5200, "manifests"),
            Work(12, "google", responses.gemini_stream, "gemini-2.5-pro", 4200, "customs"),
            Work(16, "aws", responses.converse, "amazon.nova-pro-v1:0", 3800, "routing"),
            Work(7, "aws", responses.converse, _BEDROCK_SONNET, 3600, "claims"),
            Work(14, "mistral", responses.compatible_chat, "mistral-large-2512", 3000, "mail"),
            Work(14, "openai", responses.openai_embeddings, "text-embedding-3-small", 9000, "find"),
            Work(8, "anthropic", responses.anthropic_message, _HAIKU, 7000, "invoices"),
            Work(
                5, "openai", responses.openai_reasoning, "gpt-5-mini-2025-08-07", 5000, "planning"
            ),
        ),
    ),
    Company(
        tenant="cedar-clinic",
        timezone="Asia/Kolkata",
        source="gateway-ap-1",
        share=20,
        hours=_CLINIC,
        weekdays=(110, 100, 100, 95, 100, 60, 4),
        users=("mira", "nikhil", "opal", "priya"),
        works=(
            Work(28, "openai", responses.transcription, "whisper-1", 240, "dictation"),
            Work(16, "openai", responses.speech, "tts-1", 900, "reminders"),
            Work(9, "openai", responses.realtime, "gpt-realtime-2025-08-28", 900, "phone"),
            Work(
                22, "openai", responses.openai_reasoning, "gpt-5-mini-2025-08-07", 3000, "letters"
            ),
            Work(15, "anthropic", responses.anthropic_message, _SONNET, 3000, "summaries"),
            Work(10, "google", responses.gemini, "gemini-2.5-flash", 2600, "intake"),
        ),
    ),
)
"""The tenants of the demonstration."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """A month of traffic.

    Attributes:
        month: ``YYYY-MM``.
        lines: NDJSON lines without their ends, in the order in which they were sent.
        corrections: a void and an adjustment as CloudEvents, sent after the lines.
        example: tenant and id of a call with many leaves, worth explaining.
    """

    month: str
    lines: tuple[bytes, ...]
    corrections: tuple[bytes, ...]
    example: tuple[str, str]


@dataclass(slots=True)
class _Call:
    """A call that was made: its envelope, and when, for the order."""

    at: datetime
    envelope: dict[str, Any]
    build: Build


def month_before(day: date) -> str:
    """Return the last complete calendar month before a day, as ``YYYY-MM``."""
    return (day.replace(day=1) - timedelta(days=1)).strftime("%Y-%m")


def generate(*, rng: Random, month: str, calls: int = CALLS) -> Traffic:
    """Return the traffic of a month.

    Args:
        rng: seeded; decides everything that varies, ids included.
        month: ``YYYY-MM``; each company's calls lie in that month of its own time zone.
        calls: about how many, at least 1000 so that every kind of line occurs.

    Raises:
        InvalidInput: ``invalid_period``.
    """
    made: list[_Call] = []
    for company in COMPANIES:
        made += _month_of(company, rng, month, calls * company.share // 100)
    made.sort(key=lambda call: (call.at, call.envelope["id"]))
    lines = [msgspec.json.encode(call.envelope) for call in made]
    later = _mishaps(rng, made, lines)
    sent: list[bytes] = []
    for index, line in enumerate(lines):
        sent.append(line)
        sent += later.get(index, ())
    return Traffic(
        month=month,
        lines=tuple(sent),
        corrections=_corrections(rng, made),
        example=_example(made),
    )


def _days(month: str) -> list[date]:
    try:
        first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).date()
        if not 2000 < first.year < 2099:
            # At the edges of what the ledger records, some time zone would fall outside.
            raise ValueError(month)
    except ValueError:
        raise InvalidInput(
            f"{month!r} is not a month; give one from 2001 to 2098 as YYYY-MM",
            code="invalid_period",
        ) from None
    days = [first + timedelta(days=number) for number in range(31)]
    return [day for day in days if day.month == first.month]


def _month_of(company: Company, rng: Random, month: str, calls: int) -> list[_Call]:
    days = _days(month)
    # Each day differs a little, and business grows over the month.
    busy = [company.weekdays[day.weekday()] * rng.randint(80, 120) * (90 + day.day) for day in days]
    by_day, by_hour = list(accumulate(busy)), list(accumulate(company.hours))
    by_work = list(accumulate(work.weight for work in company.works))
    made: list[_Call] = []
    for _ in range(calls):
        day, hour = days[_pick(rng, by_day)], _pick(rng, by_hour)
        work = company.works[_pick(rng, by_work)]
        at = datetime(
            day.year,
            day.month,
            day.day,
            hour,
            rng.randrange(60),
            rng.randrange(60),
            rng.randrange(1000) * 1000,
            tzinfo=ZoneInfo(company.timezone),
        )
        made += _attempts(company, rng, work, at)
    return made


def _pick(rng: Random, heights: Sequence[int]) -> int:
    """Return an index, as often as its step in a running total is high."""
    return bisect_right(heights, rng.randrange(heights[-1]))


def _attempts(company: Company, rng: Random, work: Work, at: datetime) -> list[_Call]:
    """Return a call; now and then the first attempt broke off and a second one succeeded."""
    if work.build is not responses.anthropic_stream or rng.randrange(12):
        return [_call(company, rng, work, work.build, at)]
    user = rng.choice(company.users)
    first = _call(company, rng, work, responses.anthropic_overloaded, at)
    # Its output was never stated; the gateway says what it had passed on by then.
    first.envelope["quantities"] = {"tokens.output": rng.randint(5, 90)}
    again = _call(company, rng, work, work.build, at + timedelta(milliseconds=2500))
    for call, attempt in ((first, 1), (again, 2)):
        call.envelope |= {"user": user, "attempt": attempt}
    return [first, again]


def _call(company: Company, rng: Random, work: Work, build: Build, at: datetime) -> _Call:
    body = build(Ask(rng=rng, at=int(at.timestamp()), model=work.model, size=work.size))
    envelope: dict[str, Any] = {
        "provider": work.provider,
        "tenant": company.tenant,
        "source": company.source,
        "id": f"call-{rng.getrandbits(48):012x}",
        "occurred_at": at.isoformat(timespec="milliseconds"),
        "user": rng.choice(company.users),
        "project": work.project,
    }
    if build is responses.realtime:
        envelope["session"] = f"phone-{rng.getrandbits(32):08x}"
    envelope["stream" if isinstance(body, list) else "response"] = body
    return _Call(at=at, envelope=envelope, build=build)


def _mishaps(rng: Random, made: list[_Call], lines: list[bytes]) -> dict[int, list[bytes]]:
    """Return what is sent besides the calls, by the index of the call that it follows.

    Sixty exact duplicates, one re-post with other tokens, two lines that cannot be read, and a
    call of a model without a price.
    """
    later: dict[int, list[bytes]] = {}

    def send(after: int, line: bytes | dict[str, Any]) -> None:
        encoded = line if isinstance(line, bytes) else msgspec.json.encode(line)
        later.setdefault(min(after, len(lines) - 1), []).append(encoded)

    for index in rng.sample(range(len(lines)), DUPLICATES):
        send(index + rng.randint(1, 40), lines[index])
    chats = [i for i, call in enumerate(made) if call.build is responses.openai_chat]
    reposted, truncated, negative = rng.sample(chats, 3)
    send(reposted + 3, _with_usage(made[reposted].envelope, more=7))
    send(truncated + 5, lines[truncated][: len(lines[truncated]) * 2 // 3])
    broken = {**made[negative].envelope, "id": f"call-{rng.getrandbits(48):012x}"}
    send(negative + 2, _with_usage(broken, negative=True))
    mail = next(work for work in COMPANIES[1].works if work.provider == "mistral")
    odd = rng.choice([i for i, call in enumerate(made) if call.envelope["project"] == mail.project])
    new = Work(1, mail.provider, mail.build, UNPRICED_MODEL, mail.size, mail.project)
    send(odd, _call(COMPANIES[1], rng, new, new.build, made[odd].at).envelope)
    return later


def _with_usage(
    envelope: dict[str, Any], *, more: int = 0, negative: bool = False
) -> dict[str, Any]:
    """Return a chat completion's envelope with other output tokens."""
    response = envelope["response"]
    usage = dict(response["usage"])
    for name in ("completion_tokens", "total_tokens"):
        usage[name] += more
    if negative:
        usage["completion_tokens"] = -usage["completion_tokens"]
    return {**envelope, "response": {**response, "usage": usage}}


def _corrections(rng: Random, made: list[_Call]) -> tuple[bytes, ...]:
    """Return a void and an adjustment of calls that were made."""
    search = rng.choice([c.envelope for c in made if c.build is responses.openai_search])
    dictation = rng.choice([c.envelope for c in made if c.build is responses.transcription])
    seconds = dictation["response"]["usage"]["seconds"]
    return (
        _correction("void", search, rng, reason="the customer never got the answer"),
        _correction(
            "adjust",
            dictation,
            rng,
            quantities={"audio.stt.seconds": str((seconds + 1) // 2)},
            reason="both channels of a stereo recording were counted",
        ),
    )


def _correction(kind: str, envelope: dict[str, Any], rng: Random, **data: Any) -> bytes:
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "type": f"tallybook.usage.{kind}.v2",
            "source": DESK,
            "id": f"{kind}-{rng.getrandbits(48):012x}",
            "subject": envelope["tenant"],
            "data": {"source": envelope["source"], "id": envelope["id"], **data},
        }
    )


def _example(made: list[_Call]) -> tuple[str, str]:
    """Return tenant and id of the last call that has as many leaves as the calls get."""
    for call in reversed(made):
        if call.build is responses.anthropic_message:
            usage = call.envelope["response"]["usage"]
            creation = usage["cache_creation"].values()
            if all(creation) and usage["output_tokens_details"]["thinking_tokens"]:
                return call.envelope["tenant"], call.envelope["id"]
    call = made[0]
    return call.envelope["tenant"], call.envelope["id"]
