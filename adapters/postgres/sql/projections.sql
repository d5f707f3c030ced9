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
INSERT INTO {table} AS u ({columns})
SELECT
    tenant_id, day::date, provider, model, meter, usage_user, project, cost_currency,
    trim_scale(quantity::numeric * 0.000001),
    trim_scale(charge::numeric * 0.000000000000000001),
    trim_scale(cost::numeric * 0.000000000000000001),
    trim_scale(unpriced::numeric * 0.000001)
FROM unnest(
    %(tenant_id)s, %(day)s, %(provider)s, %(model)s, %(meter)s, %(usage_user)s, %(project)s,
    %(cost_currency)s, %(quantity)s, %(charge)s, %(cost)s, %(unpriced)s
) AS new ({columns})
ON CONFLICT ({keys}) DO UPDATE
SET quantity = trim_scale(u.quantity + excluded.quantity),
    charge = trim_scale(u.charge + excluded.charge),
    cost = trim_scale(u.cost + excluded.cost),
    unpriced = trim_scale(u.unpriced + excluded.unpriced);

-- name: add_billing_daily
-- "changed" is the end of the batch, which is never before the commit that changed the row.
INSERT INTO {table} AS u ({columns}, changed)
SELECT
    tenant_id, day::date, provider, model, meter, byok::boolean, platform::boolean,
    price_version, rate::numeric,
    trim_scale(quantity::numeric * 0.000001),
    trim_scale(charge::numeric * 0.000000000000000001),
    trim_scale(unpriced::numeric * 0.000001),
    trim_scale(credit::numeric * 0.000000000000000001),
    %(upto)s
FROM unnest(
    %(tenant_id)s, %(day)s, %(provider)s, %(model)s, %(meter)s, %(byok)s, %(platform)s,
    %(price_version)s, %(rate)s, %(quantity)s, %(charge)s, %(unpriced)s, %(credit)s
) AS new ({columns})
ON CONFLICT ({keys}) DO UPDATE
SET quantity = trim_scale(u.quantity + excluded.quantity),
    charge = trim_scale(u.charge + excluded.charge),
    unpriced = trim_scale(u.unpriced + excluded.unpriced),
    credit = trim_scale(u.credit + excluded.credit),
    changed = excluded.changed;

-- Of a machine that vanished the server learns after half a minute, and frees its lock.
-- name: be_missed
SELECT
    set_config('tcp_keepalives_idle', '15', false),
    set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '3', false);

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
WHERE NOT EXISTS (SELECT FROM {table} AS r WHERE ({new_keys}) = ({live_keys}));

-- name: put_differences
INSERT INTO {live} ({columns})
SELECT {columns} FROM {table}
EXCEPT
SELECT {columns} FROM {live}
ON CONFLICT ({keys}) DO UPDATE SET {updates};

-- name: count_rows
SELECT count(*) AS rows FROM {live};
