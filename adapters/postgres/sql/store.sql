-- The write path. One batch is one transaction under the writer lock.

-- name: begin
BEGIN;

-- name: commit
COMMIT;

-- name: rollback
ROLLBACK;

-- name: lock_writer
SELECT pg_advisory_xact_lock(%(lock)s);

-- name: read_clock
SELECT
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now,
    (SELECT max(notification_id) FROM ledger_log) AS head;

-- name: changes
SELECT originator_id
FROM ledger_log
WHERE notification_id > %(since)s
ORDER BY notification_id
LIMIT %(limit)s;

-- name: keys
SELECT k.tenant_id, k.key, k.version, k.index, k.fingerprint
FROM unnest(%(tenants)s, %(keys)s) AS asked (tenant_id, key)
JOIN usage_keys AS k ON k.tenant_id = asked.tenant_id AND k.key = asked.key;

-- name: tenants
SELECT
    t.tenant_id, t.tenant, t.currency, t.timezone, t.book, t.version, t.digest, t.pending,
    t.conflicts, p.next_expiry, p.capped, p.credit_required, p.owed, p.entitlements
FROM tenants AS t
LEFT JOIN protection AS p ON p.tenant_id = t.tenant_id
WHERE t.tenant = ANY (%(names)s);

-- name: last_tenant
SELECT coalesce(max(tenant_id), 0) AS last FROM tenants;

-- name: shapes
SELECT tenant_id, body FROM shapes WHERE tenant_id = ANY (%(tenants)s) ORDER BY tenant_id, number;

-- name: balances
SELECT b.tenant_id, b.period, b.charge, b.costs, b.quantities, b.events, b.voided, b.unpriced
FROM unnest(%(tenants)s, %(periods)s) AS asked (tenant_id, period)
JOIN balances AS b ON b.tenant_id = asked.tenant_id AND b.period = asked.period;

-- name: corrections
SELECT
    c.tenant_id, c.key, c.void_version, c.void_index, c.adjust_version, c.adjust_index,
    c.standing_version, c.standing_index, c.reversal
FROM unnest(%(tenants)s, %(keys)s) AS asked (tenant_id, key)
JOIN corrections AS c ON c.tenant_id = asked.tenant_id AND c.key = asked.key;

-- name: accumulators
SELECT a.tenant_id, a.session, a.key, a.quantity
FROM unnest(%(tenants)s, %(sessions)s) AS asked (tenant_id, session)
JOIN accumulators AS a ON a.tenant_id = asked.tenant_id AND a.session = asked.session;

-- name: running
SELECT a.tenant_id, a.key, a.quantity
FROM unnest(%(tenants)s, %(keys)s) AS asked (tenant_id, key)
JOIN accumulators AS a
    ON a.tenant_id = asked.tenant_id AND a.session = '' AND a.key = asked.key;

-- name: commits
SELECT l.originator_id, l.originator_version, l.state
FROM unnest(%(streams)s, %(versions)s) AS asked (stream, version)
JOIN ledger_log AS l
    ON l.originator_id = asked.stream AND l.originator_version = asked.version;

-- name: insert_keys
INSERT INTO usage_keys (tenant_id, key, version, index, fingerprint)
SELECT tenant_id, key, version, index, fingerprint
FROM unnest(%(tenants)s, %(keys)s, %(versions)s, %(indexes)s, %(fingerprints)s)
    AS new (tenant_id, key, version, index, fingerprint);

-- name: insert_shapes
INSERT INTO shapes (tenant_id, number, body)
SELECT tenant_id, number, body
FROM unnest(%(tenants)s, %(numbers)s, %(bodies)s) AS new (tenant_id, number, body);

-- name: insert_tenants
INSERT INTO tenants (
    tenant_id, tenant, currency, timezone, book, version, digest, shapes, pending, conflicts
)
SELECT tenant_id, tenant, currency, timezone, book, 0, '', 0, 0, 0
FROM unnest(%(ids)s, %(names)s, %(currencies)s, %(timezones)s, %(books)s)
    AS new (tenant_id, tenant, currency, timezone, book);

-- name: update_tenants
UPDATE tenants AS t
SET version = new.version,
    digest = new.digest,
    shapes = new.shapes,
    pending = new.pending,
    conflicts = new.conflicts
FROM unnest(%(ids)s, %(versions)s, %(digests)s, %(shapes)s, %(pending)s, %(conflicts)s)
    AS new (tenant_id, version, digest, shapes, pending, conflicts)
WHERE t.tenant_id = new.tenant_id;

-- name: upsert_balances
INSERT INTO balances AS b (
    tenant_id, period, charge, costs, quantities, events, voided, unpriced
)
SELECT tenant_id, period, charge::numeric, costs::jsonb, quantities::jsonb, events, voided, unpriced
FROM unnest(
    %(tenants)s, %(periods)s, %(charges)s, %(costs)s, %(quantities)s,
    %(events)s, %(voided)s, %(unpriced)s
) AS new (tenant_id, period, charge, costs, quantities, events, voided, unpriced)
ON CONFLICT (tenant_id, period) DO UPDATE
SET charge = excluded.charge,
    costs = excluded.costs,
    quantities = excluded.quantities,
    events = excluded.events,
    voided = excluded.voided,
    unpriced = excluded.unpriced;

-- name: upsert_corrections
INSERT INTO corrections (
    tenant_id, key, void_version, void_index, adjust_version, adjust_index,
    standing_version, standing_index, reversal
)
SELECT
    tenant_id, key,
    nullif(void_version, 0), CASE WHEN void_version > 0 THEN void_index END,
    nullif(adjust_version, 0), CASE WHEN adjust_version > 0 THEN adjust_index END,
    nullif(standing_version, 0), CASE WHEN standing_version > 0 THEN standing_index END,
    nullif(reversal, '')
FROM unnest(
    %(tenants)s, %(keys)s, %(void_versions)s, %(void_indexes)s, %(adjust_versions)s,
    %(adjust_indexes)s, %(standing_versions)s, %(standing_indexes)s, %(reversals)s
) AS new (
    tenant_id, key, void_version, void_index, adjust_version, adjust_index,
    standing_version, standing_index, reversal
)
ON CONFLICT (tenant_id, key) DO UPDATE
SET void_version = excluded.void_version,
    void_index = excluded.void_index,
    adjust_version = excluded.adjust_version,
    adjust_index = excluded.adjust_index,
    standing_version = excluded.standing_version,
    standing_index = excluded.standing_index,
    reversal = excluded.reversal;

-- name: upsert_accumulators
INSERT INTO accumulators (tenant_id, session, key, quantity)
SELECT tenant_id, session, key, quantity::numeric
FROM unnest(%(tenants)s, %(sessions)s, %(keys)s, %(quantities)s)
    AS new (tenant_id, session, key, quantity)
ON CONFLICT (tenant_id, session, key) DO UPDATE SET quantity = excluded.quantity;

-- name: insert_unpriced
INSERT INTO unpriced_usage (tenant_id, key, occurred_at, source, id, provider, model)
SELECT
    tenant_id, key, 'epoch'::timestamptz + occurred_at * interval '1 microsecond',
    source, id, provider, model
FROM unnest(
    %(tenants)s, %(keys)s, %(times)s, %(sources)s, %(ids)s, %(providers)s, %(models)s
) AS new (tenant_id, key, occurred_at, source, id, provider, model)
ON CONFLICT (tenant_id, key) DO UPDATE SET
    occurred_at = excluded.occurred_at,
    provider = excluded.provider,
    model = excluded.model;

-- name: delete_unpriced
DELETE FROM unpriced_usage AS u
USING unnest(%(tenants)s, %(keys)s) AS gone (tenant_id, key)
WHERE u.tenant_id = gone.tenant_id AND u.key = gone.key;

-- name: insert_conflicts
INSERT INTO conflicts (tenant_id, version, index)
SELECT tenant_id, version, index
FROM unnest(%(tenants)s, %(versions)s, %(indexes)s) AS new (tenant_id, version, index);

-- name: budgets
SELECT tenant_id, number, ladder, terms
FROM budgets
WHERE tenant_id = ANY (%(tenants)s)
ORDER BY tenant_id, number;

-- name: grants
SELECT
    tenant_id, number, id, kind, amount, priority, at, expires_at, filter,
    held, burned, withdrawn, lapsed, expired
FROM credit_grants
WHERE tenant_id = ANY (%(tenants)s)
ORDER BY tenant_id, number;

-- name: counters
SELECT c.tenant_id, c.budget, c.start, c.spent, c.held, c.fired, c.ladder, c.ceiling, c.until
FROM unnest(%(tenants)s, %(budgets)s, %(starts)s) AS asked (tenant_id, budget, start)
JOIN budget_counters AS c
    ON c.tenant_id = asked.tenant_id AND c.budget = asked.budget AND c.start = asked.start;

-- name: holds
SELECT h.tenant_id, h.key, h.body
FROM unnest(%(tenants)s, %(keys)s) AS asked (tenant_id, key)
JOIN holds AS h ON h.tenant_id = asked.tenant_id AND h.key = asked.key;

-- name: due_holds
SELECT tenant_id, body
FROM holds
WHERE status = 0 AND tenant_id = ANY (%(tenants)s) AND expires_at <= %(now)s
ORDER BY expires_at
LIMIT %(limit)s;

-- name: next_expiries
SELECT asked.tenant_id, (
    SELECT min(h.expires_at)
    FROM holds AS h
    WHERE h.status = 0 AND h.tenant_id = asked.tenant_id AND h.expires_at > %(now)s
) AS expires_at
FROM unnest(%(tenants)s) AS asked (tenant_id);

-- name: upsert_protection
INSERT INTO protection (
    tenant_id, next_expiry, capped, credit_required, owed, entitlements
)
SELECT tenant_id, next_expiry, capped = 1, required = 1, owed::numeric, entitlements
FROM unnest(
    %(tenants)s, %(expiries)s, %(capped)s, %(required)s, %(owed)s, %(entitlements)s
) AS new (tenant_id, next_expiry, capped, required, owed, entitlements)
ON CONFLICT (tenant_id) DO UPDATE
SET next_expiry = excluded.next_expiry,
    capped = excluded.capped,
    credit_required = excluded.credit_required,
    owed = excluded.owed,
    entitlements = excluded.entitlements;

-- name: upsert_budgets
INSERT INTO budgets (tenant_id, number, ladder, terms)
SELECT tenant_id, number, ladder, terms
FROM unnest(%(tenants)s, %(numbers)s, %(ladders)s, %(terms)s)
    AS new (tenant_id, number, ladder, terms)
ON CONFLICT (tenant_id, number) DO UPDATE
SET ladder = excluded.ladder, terms = excluded.terms;

-- name: upsert_counters
INSERT INTO budget_counters (
    tenant_id, budget, start, spent, held, fired, ladder, ceiling, until
)
SELECT
    tenant_id, budget, start, spent::numeric, held::numeric, fired, ladder, ceiling::numeric, until
FROM unnest(
    %(tenants)s, %(budgets)s, %(starts)s, %(spent)s, %(held)s, %(fired)s, %(ladders)s,
    %(ceilings)s, %(until_us)s
) AS new (tenant_id, budget, start, spent, held, fired, ladder, ceiling, until)
ON CONFLICT (tenant_id, budget, start) DO UPDATE
SET spent = excluded.spent,
    held = excluded.held,
    fired = excluded.fired,
    ladder = excluded.ladder,
    ceiling = excluded.ceiling,
    until = excluded.until;

-- name: upsert_holds
INSERT INTO holds (tenant_id, key, status, expires_at, body)
SELECT tenant_id, key, status, expires_at, body
FROM unnest(%(tenants)s, %(keys)s, %(statuses)s, %(expiries)s, %(bodies)s)
    AS new (tenant_id, key, status, expires_at, body)
ON CONFLICT (tenant_id, key) DO UPDATE
SET status = excluded.status, expires_at = excluded.expires_at, body = excluded.body;

-- name: upsert_grants
INSERT INTO credit_grants (
    tenant_id, number, id, kind, amount, priority, at, expires_at, filter,
    held, burned, withdrawn, lapsed, expired
)
SELECT
    tenant_id, number, id, kind, amount::numeric, priority, at, expires_at, filter,
    held::numeric, burned::numeric, withdrawn::numeric, lapsed::numeric, expired = 1
FROM unnest(
    %(tenants)s, %(numbers)s, %(ids)s, %(kinds)s, %(amounts)s, %(priorities)s, %(ats)s,
    %(expiries)s, %(filters)s, %(held)s, %(burned)s, %(withdrawn)s, %(lapsed)s, %(expired)s
) AS new (
    tenant_id, number, id, kind, amount, priority, at, expires_at, filter,
    held, burned, withdrawn, lapsed, expired
)
ON CONFLICT (tenant_id, number) DO UPDATE
SET held = excluded.held,
    burned = excluded.burned,
    withdrawn = excluded.withdrawn,
    lapsed = excluded.lapsed,
    expired = excluded.expired;

-- In the transaction of the commit, after the log: the commit's place there is the news' position.
-- name: insert_news
INSERT INTO budget_news (at, position, tenant_id, place, budget, body)
SELECT new.at, l.notification_id, new.tenant_id, new.place, new.budget, new.body
FROM unnest(
    %(tenants)s, %(streams)s, %(versions)s, %(places)s, %(budgets)s, %(times)s, %(bodies)s
) AS new (tenant_id, stream, version, place, budget, at, body)
JOIN ledger_log AS l ON l.originator_id = new.stream AND l.originator_version = new.version;

-- name: wake_news
SELECT pg_notify('tallybook_news', '');
