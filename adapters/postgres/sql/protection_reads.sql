-- Queries of cost protection. Every use but `now` is one read-only transaction, one snapshot.

-- name: now
SELECT clock_timestamp() AS now;

-- name: tenant
SELECT
    tenant_id, tenant, currency, timezone, book, version, digest, shapes, pending, conflicts
FROM tenants
WHERE tenant = %(tenant)s;

-- name: tenants
SELECT
    tenant_id, tenant, currency, timezone, book, version, digest, shapes, pending, conflicts
FROM tenants
WHERE tenant_id = ANY (%(ids)s);

-- name: budgets
SELECT tenant_id, number, ladder, terms
FROM budgets
WHERE tenant_id = coalesce(%(tenant_id)s::integer, tenant_id)
ORDER BY tenant_id, number;

-- name: counters
-- The windows asked for; a rolling one asks for each of its buckets.
SELECT c.tenant_id, c.budget, c.start, c.spent, c.held, c.fired, c.ladder, c.ceiling, c.until
FROM unnest(%(tenants)s::integer[], %(budgets)s::integer[], %(starts)s::bigint[])
    AS asked (tenant_id, budget, start)
JOIN budget_counters AS c
    ON c.tenant_id = asked.tenant_id AND c.budget = asked.budget AND c.start = asked.start;

-- name: holds
-- Those that are open and over are listed with the expired ones: nobody has come by yet.
SELECT tenant_id, body
FROM holds
WHERE tenant_id = coalesce(%(tenant_id)s::integer, tenant_id)
    AND (
        %(statuses)s::smallint[] IS NULL
        OR status = ANY (%(statuses)s)
        OR (%(due)s AND status = 0 AND expires_at <= %(now)s)
    )
    AND (
        %(last)s::bigint IS NULL
        OR expires_at < %(last)s
        OR (expires_at = %(last)s AND key > %(last_key)s::uuid)
    )
ORDER BY expires_at DESC, tenant_id, key;

-- name: hold
SELECT tenant_id, body
FROM holds
WHERE tenant_id = coalesce(%(tenant_id)s::integer, tenant_id) AND key = %(key)s
ORDER BY tenant_id;

-- name: due
SELECT t.tenant, (
    SELECT count(*)
    FROM holds AS h
    WHERE h.tenant_id = p.tenant_id AND h.status = 0 AND h.expires_at <= %(now)s
)
FROM protection AS p
JOIN tenants AS t ON t.tenant_id = p.tenant_id
WHERE p.next_expiry <= %(now)s
ORDER BY t.tenant;

-- name: head
SELECT capped, credit_required, next_expiry, owed, entitlements
FROM protection
WHERE tenant_id = %(tenant_id)s;

-- name: grants
SELECT
    tenant_id, number, id, kind, amount, priority, at, expires_at, filter,
    held, burned, withdrawn, lapsed, expired
FROM credit_grants
WHERE tenant_id = %(tenant_id)s
ORDER BY number;

-- name: shapes
SELECT number, body FROM shapes WHERE tenant_id = %(tenant_id)s AND number = ANY (%(numbers)s);

-- name: commits_before
-- Ids stand in a commit as they are, so a commit without these bytes does not hold the id.
SELECT originator_version, state
FROM ledger_log
WHERE originator_id = %(stream)s
    AND originator_version < %(before)s
    AND (%(bytes)s::bytea IS NULL OR position(%(bytes)s IN state) > 0)
ORDER BY originator_version DESC
LIMIT %(limit)s;
