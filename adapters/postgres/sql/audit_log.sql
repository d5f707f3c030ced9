-- The audit log and the uses of keys.

-- name: append
INSERT INTO audit_log (
    at, tenant, act, who, via, target, request_id, address, outcome, detail
)
VALUES (
    clock_timestamp(), %(tenant)s, %(act)s, %(who)s, %(via)s, %(target)s, %(request_id)s,
    %(address)s, %(outcome)s, %(detail)s::jsonb
);

-- name: list
SELECT number, at, tenant, act, who, via, target, request_id, address, outcome, detail
FROM audit_log
WHERE (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
    AND number < coalesce(%(before)s::bigint, 9223372036854775807)
    AND (%(act)s::text IS NULL OR act = %(act)s OR starts_with(act, %(act)s || '.'))
    AND (%(who)s::text IS NULL OR who = %(who)s)
ORDER BY number DESC
LIMIT %(limit)s;

-- In the order of the key: two processes that write at once wait for each other, never in a circle.
-- name: add_uses
INSERT INTO key_uses AS k (tenant, key, day, route, status, uses, first_at, last_at)
SELECT
    new.tenant, new.key, 'epoch'::date + new.day, new.route, new.status, new.uses,
    'epoch'::timestamptz + new.first_at * interval '1 microsecond',
    'epoch'::timestamptz + new.last_at * interval '1 microsecond'
FROM unnest(
    %(tenants)s::text[], %(keys)s::text[], %(days)s::integer[], %(routes)s::text[],
    %(statuses)s::smallint[], %(uses)s::bigint[], %(firsts)s::bigint[], %(lasts)s::bigint[]
) AS new (tenant, key, day, route, status, uses, first_at, last_at)
ORDER BY 1, 2, 3, 4, 5
ON CONFLICT (tenant, key, day, route, status) DO UPDATE
SET uses = k.uses + excluded.uses,
    first_at = least(k.first_at, excluded.first_at),
    last_at = greatest(k.last_at, excluded.last_at);

-- name: report
SELECT tenant, key, CASE WHEN %(daily)s THEN day END AS on_day, route, status,
    sum(uses)::bigint, min(first_at), max(last_at)
FROM key_uses
WHERE (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
    AND (%(key)s::text IS NULL OR key = %(key)s)
    AND (%(routes)s::text[] IS NULL OR route = ANY (%(routes)s))
    AND (
        %(since)s::bigint IS NULL
        OR last_at >= 'epoch'::timestamptz + %(since)s * interval '1 microsecond'
    )
GROUP BY tenant, key, on_day, route, status
ORDER BY max(last_at) DESC, tenant, key, route, status
LIMIT %(limit)s;
