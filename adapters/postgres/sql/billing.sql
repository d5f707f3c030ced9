-- Billing: accounts, invoices, numbers, and the rollups that invoices are rated from.

-- name: now
SELECT clock_timestamp() AS now;

-- name: place
SELECT tenant_id, tenant, currency, timezone FROM tenants WHERE tenant = %(tenant)s;

-- name: places
SELECT tenant_id, tenant, currency, timezone
FROM tenants
WHERE tenant_id > %(after)s
ORDER BY tenant_id
LIMIT %(limit)s;

-- name: accounts
SELECT tenant_id, state FROM billing_accounts WHERE tenant_id = ANY (%(tenants)s);

-- name: history
SELECT state
FROM ledger_log
WHERE originator_id = %(stream)s
ORDER BY originator_version;

-- name: lock_writer
SELECT pg_advisory_xact_lock(%(lock)s);

-- name: versions
SELECT tenant_id, version FROM billing_accounts WHERE tenant_id = ANY (%(tenants)s);

-- name: put_accounts
INSERT INTO billing_accounts (tenant_id, version, state)
SELECT * FROM unnest(%(tenants)s::integer[], %(versions)s::bigint[], %(states)s::bytea[])
ON CONFLICT (tenant_id) DO UPDATE SET version = excluded.version, state = excluded.state;

-- name: put_invoice
INSERT INTO invoices (
    tenant_id, id, kind, status, series, number, first_day, after_day, since_day, cites, document
)
VALUES (
    %(tenant)s, %(id)s, %(kind)s, %(status)s, %(series)s, %(number)s, %(first_day)s,
    %(after_day)s, %(since_day)s, %(cites)s, %(document)s
)
ON CONFLICT (tenant_id, id) DO UPDATE
SET status = excluded.status,
    series = excluded.series,
    number = excluded.number,
    document = excluded.document;

-- name: drop_invoice
DELETE FROM invoices WHERE tenant_id = %(tenant)s AND id = %(id)s AND status = 'draft';

-- name: take_numbers
INSERT INTO invoice_series AS s (series, last)
VALUES (%(series)s, %(count)s)
ON CONFLICT (series) DO UPDATE SET last = s.last + excluded.last
RETURNING last;

-- name: last_numbers
SELECT series, last FROM invoice_series;

-- name: numbers
SELECT number FROM invoices WHERE series = %(series)s AND number <> '' ORDER BY number;

-- name: invoice
SELECT {columns}
FROM invoices AS i
JOIN tenants AS t USING (tenant_id)
WHERE i.tenant_id = %(tenant)s AND i.id = %(id)s;

-- name: invoices_at
SELECT {columns}
FROM unnest(%(tenants)s::integer[], %(ids)s::text[]) AS asked (tenant_id, id)
JOIN invoices AS i ON i.tenant_id = asked.tenant_id AND i.id = asked.id
JOIN tenants AS t ON t.tenant_id = i.tenant_id;

-- name: invoices
-- Names only of the page: without statistics of its table it is sorted out of all that follow.
WITH page AS MATERIALIZED (
    SELECT *
    FROM invoices
    WHERE (%(tenant)s::integer IS NULL OR tenant_id = %(tenant)s)
        AND (%(status)s::text IS NULL OR status = %(status)s)
        AND (%(kind)s::text IS NULL OR kind = %(kind)s)
        AND (%(cites)s::text IS NULL OR cites = %(cites)s)
        AND (tenant_id, id) > (%(after_tenant)s, %(after_id)s COLLATE "C")
    ORDER BY tenant_id, id
    LIMIT %(limit)s
)
SELECT {columns}
FROM page AS i
JOIN tenants AS t USING (tenant_id)
ORDER BY i.tenant_id, i.id;

-- name: covering
SELECT {columns}
FROM invoices AS i
JOIN tenants AS t USING (tenant_id)
WHERE i.tenant_id = %(tenant)s
    AND i.kind = 'invoice'
    AND i.since_day < %(after_day)s
    AND i.after_day > %(first_day)s
ORDER BY i.id;

-- name: cuts
-- The chain is the digest of a ledger's commit, as `ledger.domain.entries.commit_digest` says.
SELECT
    asked.tenant_id, p.position, c.originator_version,
    sha256(
        convert_to(c.originator_id || ' ' || c.originator_version || E'\n', 'UTF8') || c.state
    ) AS chain
FROM unnest(%(tenants)s::integer[]) AS asked (tenant_id)
CROSS JOIN (
    SELECT coalesce(max(notification_id), 0) AS position
    FROM projection_tracking
    WHERE application_name = %(projection)s
) AS p
LEFT JOIN LATERAL (
    SELECT originator_id, originator_version, state
    FROM ledger_log
    WHERE originator_id = 'ledger-' || asked.tenant_id AND notification_id <= p.position
    ORDER BY originator_version DESC
    LIMIT 1
) AS c ON true;

-- name: first_days
SELECT tenant_id, min(day) FROM billing_daily WHERE tenant_id = ANY (%(tenants)s)
GROUP BY tenant_id;

-- name: rows
SELECT
    asked.place, CASE WHEN asked.daily THEN b.day ELSE asked.first_day END AS day,
    b.provider, b.model, b.meter, b.byok, b.platform, b.price_version, b.rate,
    sum(b.quantity), sum(b.charge), sum(b.unpriced), sum(b.credit)
FROM unnest(%(tenants)s::integer[], %(firsts)s::date[], %(afters)s::date[], %(daily)s::boolean[])
    WITH ORDINALITY AS asked (tenant_id, first_day, after_day, daily, place)
JOIN billing_daily AS b
    ON b.tenant_id = asked.tenant_id AND b.day >= asked.first_day AND b.day < asked.after_day
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;

-- name: changed
SELECT DISTINCT asked.tenant_id, b.day
FROM unnest(%(tenants)s::integer[], %(ends)s::date[], %(positions)s::bigint[])
    AS asked (tenant_id, before, position)
JOIN billing_daily AS b
    ON b.tenant_id = asked.tenant_id AND b.day < asked.before AND b.changed > asked.position
ORDER BY 1, 2;

-- name: plan_names
SELECT DISTINCT originator_id
FROM ledger_log
WHERE originator_id >= 'plan-' AND originator_id < 'plan.'
ORDER BY 1;

-- name: rollup_drift
-- Only while both count the same part of the log: one statement sees one moment.
SELECT
    t.tenant,
    concat_ws(' ', day::text, provider || '/' || model, meter) AS what,
    concat(
        'quantity ', trim_scale(coalesce(d.quantity, 0)),
        ', charge ', trim_scale(coalesce(d.charge, 0)),
        ', unpriced ', trim_scale(coalesce(d.unpriced, 0))
    ) AS daily,
    concat(
        'quantity ', trim_scale(coalesce(b.quantity, 0)),
        ', charge ', trim_scale(coalesce(b.charge, 0)),
        ', unpriced ', trim_scale(coalesce(b.unpriced, 0))
    ) AS billing
FROM (
    SELECT tenant_id, day, provider, model, meter, sum(quantity) AS quantity,
        sum(charge) AS charge, sum(unpriced) AS unpriced
    FROM usage_daily
    WHERE %(tenant)s::integer IS NULL OR tenant_id = %(tenant)s
    GROUP BY 1, 2, 3, 4, 5
) AS d
FULL JOIN (
    SELECT tenant_id, day, provider, model, meter, sum(quantity) AS quantity,
        sum(charge) AS charge, sum(unpriced) AS unpriced
    FROM billing_daily
    WHERE %(tenant)s::integer IS NULL OR tenant_id = %(tenant)s
    GROUP BY 1, 2, 3, 4, 5
) AS b USING (tenant_id, day, provider, model, meter)
JOIN tenants AS t USING (tenant_id)
WHERE (coalesce(d.quantity, 0), coalesce(d.charge, 0), coalesce(d.unpriced, 0))
        <> (coalesce(b.quantity, 0), coalesce(b.charge, 0), coalesce(b.unpriced, 0))
    AND (
        SELECT count(DISTINCT notification_id) = 1 AND count(*) = 2
        FROM projection_tracking
        WHERE application_name IN ('usage_daily', 'billing_daily')
    )
ORDER BY 1, 2
LIMIT 1000;
