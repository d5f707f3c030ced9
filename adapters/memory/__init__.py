"""The ledger in memory: for gateways' own unit tests, and for the tests of the core."""

from adapters.memory.audit_log import MemoryAuditLog, MemoryKeyUses
from adapters.memory.billing import MemoryBilling
from adapters.memory.jobs import MemoryJobs
from adapters.memory.keys import MemoryKeys
from adapters.memory.plans import MemoryPlans
from adapters.memory.prices import MemoryPrices
from adapters.memory.store import MemoryStore

__all__ = [
    "MemoryAuditLog",
    "MemoryBilling",
    "MemoryJobs",
    "MemoryKeyUses",
    "MemoryKeys",
    "MemoryPlans",
    "MemoryPrices",
    "MemoryStore",
]
