-- Projections: rows and positions. {table} is the live table or a rebuild's.

-- name: lock
SELECT pg_advisory_xact_lock(%(lock)s);

-- name: position
SELECT coalesce(max(notification_id), 0) AS position
FROM projection_tracking
WHERE application_name = %(name)s;

-- name: status
SELECT
    coalesce((SELECT notification_id FROM projection_tracking WHERE application_name = %(name)s), 0)
        AS position,
    coalesce((SELECT max(notification_id) FROM ledger_log), 0) AS head,
    (SELECT notification_id FROM projection_tracking WHERE application_name = %(rebuild)s)
        AS rebuilding;

-- name: window_end
-- The last of the next notifications whose states are not too many bytes together; at least one.
-- octet_length reads the stored length, not the bytes.
SELECT coalesce(max(notification_id) FILTER (WHERE bytes <= %(bytes)s), min(notification_id)) AS last
FROM (
    SELECT notification_id, sum(octet_length(state)) OVER (ORDER BY notification_id) AS bytes
    FROM (
        SELECT notification_id, state
        FROM ledger_log
        WHERE notification_id > %(after)s
            AND notification_id <= coalesce(%(upto)s::bigint, 9223372036854775807)
        ORDER BY notification_id
        LIMIT %(limit)s
    ) AS next
) AS summed;

-- name: timezones
SELECT tenant_id, timezone FROM tenants WHERE tenant_id = ANY (%(tenants)s);

-- name: shapes
SELECT s.tenant_id, s.number, s.body
FROM unnest(%(tenants)s, %(numbers)s) AS asked (tenant_id, number)
JOIN shapes AS s ON s.tenant_id = asked.tenant_id AND s.number = asked.number;

-- name: add_usage_daily
-- Quantities come x 10^6 and amounts x 10^18, as text: they do not fit a bigint.
INSERT INTO {table} AS u (
    tenant_id, day, provider, model, meter, usage_user, project, cost_currency,
    quantity, charge, cost, unpriced
)
SELECT
    tenant_id, day::date, provider, model, meter, usage_user, project, cost_currency,
    trim_scale(quantity::numeric * 0.000001),
    trim_scale(charge::numeric * 0.000000000000000001),
    trim_scale(cost::numeric * 0.000000000000000001),
    trim_scale(unpriced::numeric * 0.000001)
FROM unnest(
    %(tenants)s, %(days)s, %(providers)s, %(models)s, %(meters)s, %(users)s, %(projects)s,
    %(currencies)s, %(quantities)s, %(charges)s, %(costs)s, %(unpriced)s
) AS new (
    tenant_id, day, provider, model, meter, usage_user, project, cost_currency,
    quantity, charge, cost, unpriced
)
ON CONFLICT (tenant_id, day, provider, model, meter, usage_user, project, cost_currency) DO UPDATE
SET quantity = trim_scale(u.quantity + excluded.quantity),
    charge = trim_scale(u.charge + excluded.charge),
    cost = trim_scale(u.cost + excluded.cost),
    unpriced = trim_scale(u.unpriced + excluded.unpriced);

-- name: try_session_lock
SELECT pg_try_advisory_lock(%(lock)s) AS taken;

-- name: rebuild_exists
SELECT to_regclass(%(table)s) IS NOT NULL
    AND EXISTS (SELECT FROM projection_tracking WHERE application_name = %(name)s) AS found;

-- name: forget_rebuilds
DELETE FROM projection_tracking WHERE starts_with(application_name, %(prefix)s);

-- name: drop_rebuild
DROP TABLE IF EXISTS {table};

-- name: create_rebuild
CREATE TABLE {table} (LIKE {live} INCLUDING ALL);

-- name: analyze_rebuild
ANALYZE {table};

-- name: remove_surplus
DELETE FROM {live} AS u
WHERE NOT EXISTS (
    SELECT FROM {table} AS r
    WHERE r.tenant_id = u.tenant_id
        AND r.day = u.day
        AND r.provider = u.provider
        AND r.model = u.model
        AND r.meter = u.meter
        AND r.usage_user = u.usage_user
        AND r.project = u.project
        AND r.cost_currency = u.cost_currency
);

-- name: put_differences
INSERT INTO {live} (
    tenant_id, day, provider, model, meter, usage_user, project, cost_currency,
    quantity, charge, cost, unpriced
)
SELECT
    tenant_id, day, provider, model, meter, usage_user, project, cost_currency,
    quantity, charge, cost, unpriced
FROM {table}
EXCEPT
SELECT
    tenant_id, day, provider, model, meter, usage_user, project, cost_currency,
    quantity, charge, cost, unpriced
FROM {live}
ON CONFLICT (tenant_id, day, provider, model, meter, usage_user, project, cost_currency) DO UPDATE
SET quantity = excluded.quantity,
    charge = excluded.charge,
    cost = excluded.cost,
    unpriced = excluded.unpriced;

-- name: count_rows
SELECT count(*) AS rows FROM {live};
