-- Price books: streams whose ids begin with "prices-" ('.' is the character after '-'), and the
-- usage that waits for a price.

-- The sum keeps the planner from walking the whole log backwards in search of a price event.
-- name: head
SELECT coalesce(max(notification_id + 0), 0) AS head
FROM ledger_log
WHERE originator_id >= 'prices-' AND originator_id < 'prices.';

-- name: events
SELECT notification_id, originator_id, originator_version, topic, state
FROM ledger_log
WHERE originator_id >= 'prices-' AND originator_id < 'prices.'
    AND notification_id + 0 > %(after)s
ORDER BY originator_id, originator_version;

-- name: now
SELECT clock_timestamp() AS now;

-- name: waiting
SELECT provider, model, count(*) AS events
FROM unpriced_usage
GROUP BY provider, model
ORDER BY provider, model;

-- In the order of the ledger: neighbors share their commits, which are read only once then.
-- name: unpriced
SELECT t.tenant, u.source, u.id
FROM unpriced_usage AS u
JOIN unnest(%(providers)s::text[], %(models)s::text[]) AS wanted (provider, model)
    ON u.provider = wanted.provider AND u.model = wanted.model
JOIN usage_keys AS k ON k.tenant_id = u.tenant_id AND k.key = u.key
JOIN tenants AS t ON t.tenant_id = u.tenant_id
ORDER BY u.tenant_id, k.version, k.index;
