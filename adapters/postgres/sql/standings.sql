-- Where tenants stand, for many at once. `heads` is one statement; the others share one snapshot.

-- name: heads
SELECT tenant, version, digest, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
FROM tenants
WHERE tenant = ANY (%(tenants)s);

-- name: now
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- name: tenants
SELECT
    t.tenant_id, t.tenant, t.currency, t.timezone, t.book, t.version, t.digest, t.shapes,
    t.pending, t.conflicts, p.credit_required, p.owed
FROM tenants AS t
LEFT JOIN protection AS p ON p.tenant_id = t.tenant_id
WHERE t.tenant = ANY (%(tenants)s);

-- name: balances
SELECT tenant_id, period, charge, costs, quantities, events, voided, unpriced
FROM balances
WHERE tenant_id = ANY (%(ids)s)
ORDER BY tenant_id, period;

-- name: open_holds
SELECT tenant_id, body FROM holds WHERE tenant_id = ANY (%(ids)s) AND status = 0;

-- name: budgets
SELECT tenant_id, number, ladder, terms
FROM budgets
WHERE tenant_id = ANY (%(ids)s)
ORDER BY tenant_id, number;

-- name: counters
SELECT c.tenant_id, c.budget, c.start, c.spent, c.held, c.fired, c.ladder, c.ceiling, c.until
FROM unnest(%(tenants)s::integer[], %(budgets)s::integer[], %(starts)s::bigint[])
    AS asked (tenant_id, budget, start)
JOIN budget_counters AS c
    ON c.tenant_id = asked.tenant_id AND c.budget = asked.budget AND c.start = asked.start;

-- name: grants
-- Used up ones say nothing about what is left.
SELECT
    tenant_id, number, id, kind, amount, priority, at, expires_at, filter,
    held, burned, withdrawn, lapsed, expired
FROM credit_grants
WHERE tenant_id = ANY (%(ids)s) AND (held <> 0 OR amount > burned + withdrawn + lapsed)
ORDER BY tenant_id, number;
