-- Queries. Every use is one read-only transaction with one snapshot.

-- name: tenants
SELECT
    tenant_id, tenant, currency, timezone, book, version, digest, shapes, pending, conflicts
FROM tenants
WHERE %(after)s::text IS NULL OR tenant > %(after)s
ORDER BY tenant
LIMIT %(limit)s::bigint;

-- name: tenant
SELECT
    tenant_id, tenant, currency, timezone, book, version, digest, shapes, pending, conflicts
FROM tenants
WHERE tenant = %(tenant)s;

-- name: tenants_by_id
SELECT
    tenant_id, tenant, currency, timezone, book, version, digest, shapes, pending, conflicts
FROM tenants
WHERE tenant_id = ANY (%(ids)s);

-- name: balances
SELECT period, charge, costs, quantities, events, voided, unpriced
FROM balances
WHERE tenant_id = %(tenant_id)s
ORDER BY period;

-- name: balances_of_many
SELECT
    t.tenant_id, t.tenant, t.currency, t.timezone, t.book, t.version, t.digest, t.shapes, t.pending,
    t.conflicts, b.period, b.charge, b.costs, b.quantities, b.events, b.voided, b.unpriced
FROM tenants AS t
LEFT JOIN balances AS b ON b.tenant_id = t.tenant_id
WHERE t.tenant = ANY (%(tenants)s)
ORDER BY t.tenant, b.period;

-- name: usage
-- {columns} are some of the grouping columns, each followed by a comma. Rows that add up to
-- nothing do not mix meters: they are what an adjustment took away. {later} starts a page.
SELECT
    {columns}
    cost_currency,
    sum(quantity) AS quantity,
    sum(charge) AS charge,
    sum(cost) AS cost,
    sum(unpriced) AS unpriced,
    min(meter) FILTER (WHERE quantity <> 0) AS first_meter,
    max(meter) FILTER (WHERE quantity <> 0) AS last_meter
FROM usage_daily
WHERE tenant_id = %(tenant_id)s
    AND day >= coalesce(%(start)s::date, '-infinity')
    AND day < coalesce(%(end)s::date, 'infinity')
    {later}
GROUP BY {columns} cost_currency
HAVING bool_or(quantity <> 0 OR charge <> 0 OR cost <> 0)
ORDER BY {columns} cost_currency;

-- name: lag
SELECT
    coalesce((SELECT max(notification_id) FROM ledger_log), 0)
    - coalesce(
        (SELECT notification_id FROM projection_tracking WHERE application_name = 'usage_daily'), 0
    ) AS lag;

-- name: key
SELECT version, index FROM usage_keys WHERE tenant_id = %(tenant_id)s AND key = %(key)s;

-- name: correction
SELECT
    void_version, void_index, adjust_version, adjust_index, standing_version, standing_index,
    reversal IS NOT NULL AS reversed
FROM corrections
WHERE tenant_id = %(tenant_id)s AND key = %(key)s;

-- name: corrections_of
SELECT
    key,
    void_version, void_index, adjust_version, adjust_index, standing_version, standing_index,
    reversal IS NOT NULL AS reversed
FROM corrections
WHERE tenant_id = %(tenant_id)s AND key = ANY (%(keys)s);

-- name: commits_at
SELECT originator_version, notification_id, state
FROM ledger_log
WHERE originator_id = %(stream)s AND originator_version = ANY (%(versions)s)
ORDER BY originator_version;

-- name: commits_before
SELECT originator_version, state
FROM ledger_log
WHERE originator_id = %(stream)s
    AND originator_version < coalesce(%(before)s::bigint, 9223372036854775807)
ORDER BY originator_version DESC
LIMIT %(limit)s;

-- name: commits_between
-- Ids stand in a commit as they are, so a commit without these bytes does not hold the id.
SELECT originator_version, notification_id, state
FROM ledger_log
WHERE originator_id = %(stream)s
    AND originator_version BETWEEN %(first)s AND %(last)s
    AND position(%(bytes)s IN state) > 0
ORDER BY originator_version;

-- name: conflict_commits
SELECT l.originator_version, l.notification_id, l.state
FROM (SELECT DISTINCT version FROM conflicts WHERE tenant_id = %(tenant_id)s) AS c
JOIN ledger_log AS l ON l.originator_id = %(stream)s AND l.originator_version = c.version
WHERE %(bytes)s::bytea IS NULL OR position(%(bytes)s IN l.state) > 0
ORDER BY l.originator_version;

-- name: find_in_stream
SELECT originator_id, originator_version, notification_id, state
FROM ledger_log
WHERE originator_id = %(stream)s AND position(%(bytes)s IN state) > 0
ORDER BY originator_version DESC;

-- name: find_in_log
SELECT originator_id, originator_version, notification_id, state
FROM ledger_log
WHERE position(%(bytes)s IN state) > 0
ORDER BY notification_id DESC;

-- name: shapes
SELECT body FROM shapes WHERE tenant_id = %(tenant_id)s ORDER BY number;

-- name: unpriced
SELECT t.tenant, u.source, u.id, u.provider, u.model, u.occurred_at
FROM unpriced_usage AS u
JOIN tenants AS t ON t.tenant_id = u.tenant_id
WHERE u.tenant_id = coalesce(%(tenant_id)s::integer, u.tenant_id)
ORDER BY u.occurred_at, t.tenant, u.source, u.id
LIMIT %(limit)s;

-- name: now
SELECT clock_timestamp() AS now;
