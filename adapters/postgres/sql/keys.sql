-- Keys: streams whose ids begin with "key-" ('.' is the character after '-').

-- name: any
SELECT EXISTS (
    SELECT FROM ledger_log WHERE originator_id >= 'key-' AND originator_id < 'key.'
) AS found;

-- name: events
SELECT originator_id, originator_version, topic, state
FROM ledger_log
WHERE originator_id >= 'key-' AND originator_id < 'key.'
ORDER BY originator_id, originator_version;

-- One row at least, so that the time is told of what does not exist, too.
-- name: look_up
SELECT clock_timestamp(), l.originator_id, l.originator_version, l.topic, l.state
FROM (VALUES (1)) AS always (one)
LEFT JOIN ledger_log AS l ON l.originator_id = %(stream)s
ORDER BY l.originator_version;

-- name: tell
SELECT pg_notify(%(channel)s, id) FROM unnest(%(ids)s::text[]) AS changed (id);

-- name: hears
SELECT %(channel)s IN (SELECT pg_listening_channels());

-- name: now
SELECT clock_timestamp() AS now;
