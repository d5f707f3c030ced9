-- The audit: one snapshot of log and rows. Every statement but `wrong_keys` reads a range.

-- name: head
SELECT coalesce(max(notification_id), 0) FROM ledger_log;

-- name: log
SELECT notification_id, originator_id, originator_version, topic, state
FROM ledger_log
ORDER BY notification_id;

-- name: stream
SELECT notification_id, originator_id, originator_version, topic, state
FROM ledger_log
WHERE originator_id = %(stream)s AND originator_version > %(after)s
ORDER BY originator_version;

-- name: commits_at
SELECT originator_version, state
FROM ledger_log
WHERE originator_id = %(stream)s AND originator_version = ANY (%(versions)s) AND topic = %(topic)s;

-- name: tenants
SELECT
    tenant_id, tenant, currency, timezone, book, version, digest, shapes, pending, conflicts
FROM tenants
ORDER BY tenant_id;

-- name: tenant_numbers
SELECT tenant_id FROM tenants
UNION SELECT tenant_id FROM shapes
UNION SELECT tenant_id FROM balances
UNION SELECT tenant_id FROM corrections
UNION SELECT tenant_id FROM accumulators
UNION SELECT tenant_id FROM unpriced_usage
UNION SELECT tenant_id FROM conflicts
UNION SELECT tenant_id FROM protection
UNION SELECT tenant_id FROM budgets
UNION SELECT tenant_id FROM budget_counters
UNION SELECT tenant_id FROM holds
UNION SELECT tenant_id FROM credit_grants;

-- name: key_counts
SELECT tenant_id, count(*) FROM usage_keys GROUP BY tenant_id;

-- name: key_count
SELECT tenant_id, count(*) FROM usage_keys WHERE tenant_id = %(tenant)s GROUP BY tenant_id;

-- name: shapes
SELECT tenant_id, number, body FROM shapes WHERE tenant_id = ANY (%(tenants)s);

-- name: balances
SELECT tenant_id, period, charge, costs, quantities, events, voided, unpriced
FROM balances
WHERE tenant_id = ANY (%(tenants)s);

-- name: corrections
SELECT
    tenant_id, key, void_version, void_index, adjust_version, adjust_index,
    standing_version, standing_index, reversal
FROM corrections
WHERE tenant_id = ANY (%(tenants)s);

-- name: accumulators
SELECT tenant_id, session, key, quantity FROM accumulators WHERE tenant_id = ANY (%(tenants)s);

-- name: unpriced
SELECT
    tenant_id, key, source, id, provider, model,
    (extract(epoch FROM occurred_at) * 1000000)::bigint
FROM unpriced_usage
WHERE tenant_id = ANY (%(tenants)s);

-- name: conflicts
SELECT tenant_id, version, index FROM conflicts WHERE tenant_id = ANY (%(tenants)s);

-- name: protection
SELECT tenant_id, next_expiry, capped, credit_required, owed, entitlements
FROM protection
WHERE tenant_id = ANY (%(tenants)s);

-- name: budgets
SELECT tenant_id, number, ladder, terms FROM budgets WHERE tenant_id = ANY (%(tenants)s);

-- name: budget_counters
SELECT tenant_id, budget, start, spent, held, fired, ladder, ceiling, until
FROM budget_counters
WHERE tenant_id = ANY (%(tenants)s);

-- name: holds
SELECT tenant_id, key, status, expires_at, body
FROM holds
WHERE tenant_id = ANY (%(tenants)s);

-- name: grants
SELECT
    tenant_id, number, id, kind, priority, at, expires_at, expired, filter,
    amount, held, burned, withdrawn, lapsed
FROM credit_grants
WHERE tenant_id = ANY (%(tenants)s);

-- name: wrong_keys
SELECT a.place, k.version, k.index, k.fingerprint
FROM unnest(%(tenants)s, %(keys)s, %(versions)s, %(indexes)s, %(fingerprints)s)
    WITH ORDINALITY AS a (tenant_id, key, version, index, fingerprint, place)
LEFT JOIN usage_keys AS k ON k.tenant_id = a.tenant_id AND k.key = a.key
WHERE k.version IS DISTINCT FROM a.version
    OR k.index IS DISTINCT FROM a.index
    OR k.fingerprint <> a.fingerprint
ORDER BY a.place;

-- name: key_rows
SELECT key, version, index, fingerprint
FROM usage_keys
WHERE tenant_id = %(tenant)s
ORDER BY version, index;

-- name: rollup_position
SELECT coalesce(max(notification_id), 0)
FROM projection_tracking
WHERE application_name = %(name)s;

-- Scaled here: reading integers costs a tenth of reading and scaling decimals.
-- name: rollups
SELECT
    tenant_id, day::text, provider, model, meter, usage_user, project, cost_currency,
    trim_scale(quantity * 1e6)::text, trim_scale(charge * 1e18)::text,
    trim_scale(cost * 1e18)::text, trim_scale(unpriced * 1e6)::text
FROM usage_daily;

-- name: rollups_of
SELECT
    tenant_id, day::text, provider, model, meter, usage_user, project, cost_currency,
    trim_scale(quantity * 1e6)::text, trim_scale(charge * 1e18)::text,
    trim_scale(cost * 1e18)::text, trim_scale(unpriced * 1e6)::text
FROM usage_daily
WHERE tenant_id = %(tenant)s;

-- name: billing_rollups
SELECT
    tenant_id, day::text, provider, model, meter,
    trim_scale(sum(quantity) * 1e6)::text, trim_scale(sum(charge) * 1e18)::text,
    trim_scale(sum(unpriced) * 1e6)::text
FROM billing_daily
WHERE %(tenant)s::integer IS NULL OR tenant_id = %(tenant)s
GROUP BY 1, 2, 3, 4, 5;
