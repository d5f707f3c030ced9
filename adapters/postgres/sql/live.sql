-- News of budgets, and sessions of gateways.

-- name: wake
SELECT pg_notify(%(channel)s, %(payload)s);

-- name: head
SELECT coalesce(max(notification_id), 0) AS head FROM ledger_log;

-- name: news
SELECT n.position, n.place, n.tenant_id, n.body, t.tenant, t.currency, b.terms
FROM budget_news AS n
JOIN tenants AS t ON t.tenant_id = n.tenant_id
LEFT JOIN budgets AS b ON b.tenant_id = n.tenant_id AND b.number = n.budget
WHERE n.position >= %(position)s AND (n.position, n.place) > (%(position)s, %(place)s)
ORDER BY n.position, n.place
LIMIT %(limit)s;

-- name: forget_news
DELETE FROM budget_news
WHERE at < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - %(kept_us)s;

-- An epoch is the time at which it began, but always later than the one before.
-- name: begin_session
INSERT INTO stream_sessions AS s (
    tenant, session, epoch, attachment, acked, ended, attribution, seen_at
)
VALUES (
    %(tenant)s, %(session)s, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 1, 0,
    false, %(attribution)s, clock_timestamp()
)
ON CONFLICT (tenant, session) DO UPDATE
SET epoch = greatest(s.epoch + 1, excluded.epoch),
    attachment = s.attachment + 1,
    acked = 0,
    ended = false,
    attribution = excluded.attribution,
    seen_at = excluded.seen_at
RETURNING tenant, session, epoch, attachment, acked, ended, attribution;

-- name: resume_session
UPDATE stream_sessions
SET attachment = attachment + 1, seen_at = clock_timestamp()
WHERE tenant = %(tenant)s AND session = %(session)s AND epoch = %(epoch)s AND NOT ended
RETURNING tenant, session, epoch, attachment, acked, ended, attribution;

-- name: session
SELECT tenant, session, epoch, attachment, acked, ended, attribution
FROM stream_sessions
WHERE tenant = %(tenant)s AND session = %(session)s;

-- name: end_session
UPDATE stream_sessions
SET ended = true, seen_at = clock_timestamp()
WHERE tenant = %(tenant)s AND session = %(session)s AND attachment = %(attachment)s;

-- name: keep_sessions
UPDATE stream_sessions AS s
SET acked = greatest(s.acked, new.acked), seen_at = clock_timestamp()
FROM unnest(%(tenants)s::text[], %(sessions)s::text[], %(attachments)s::bigint[], %(acked)s::bigint[])
    AS new (tenant, session, attachment, acked)
WHERE s.tenant = new.tenant AND s.session = new.session AND s.attachment = new.attachment
RETURNING s.tenant, s.session;

-- name: forget_sessions
DELETE FROM stream_sessions
WHERE seen_at < clock_timestamp() - make_interval(secs => %(kept_s)s);

-- The bytes of the session's id are somewhere in the body of each of its holds.
-- name: session_holds
SELECT h.body
FROM tenants AS t
JOIN holds AS h ON h.tenant_id = t.tenant_id
WHERE t.tenant = %(tenant)s AND h.status = 0 AND position(%(bytes)s::bytea IN h.body) > 0
ORDER BY h.expires_at, h.key;
