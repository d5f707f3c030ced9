"""The Python client of the HTTP API: usage, holds, and a spool that loses nothing.

from adapters.client import Client, Usage

with Client(key="tbk_live_…", spool="tallybook.spool") as client:
client.enqueue(Usage(source="gateway-1", provider="openai", model="gpt-4o",
quantities={"tokens.input": 1200, "tokens.output": 350}))
"""

from adapters.client.aio import AsyncClient
from adapters.client.answers import SPOOLED, UNSENT, Denied, HoldAnswer, Item
from adapters.client.blocking import Client
from adapters.client.config import Config
from adapters.client.spool import Refusal, Spool, SpoolFull
from adapters.client.usage import Usage, new_id
from adapters.client.wire import LedgerUnreachable, NotPermitted, Retry

__all__ = [
    "SPOOLED",
    "UNSENT",
    "AsyncClient",
    "Client",
    "Config",
    "Denied",
    "HoldAnswer",
    "Item",
    "LedgerUnreachable",
    "NotPermitted",
    "Refusal",
    "Retry",
    "Spool",
    "SpoolFull",
    "Usage",
    "new_id",
]
