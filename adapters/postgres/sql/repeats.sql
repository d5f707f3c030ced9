-- Answers to repeated commands. An attempt is a transaction that holds the lock of its key, after
-- one that claimed it.

-- name: lock
SELECT pg_try_advisory_xact_lock(hashtextextended(%(owner)s || chr(1) || %(key)s, 7461626865));

-- name: find
SELECT digest, answer, (extract(epoch FROM at) * 1000000)::bigint AS at
FROM repeats
WHERE owner = %(owner)s AND key = %(key)s;

-- name: claim
-- A command without an answer was begun, and may have been done.
INSERT INTO repeats (owner, key, digest, answer, at)
VALUES (%(owner)s, %(key)s, %(digest)s, '', clock_timestamp());

-- name: keep
UPDATE repeats SET answer = %(answer)s, at = clock_timestamp()
WHERE owner = %(owner)s AND key = %(key)s;

-- name: release
DELETE FROM repeats WHERE owner = %(owner)s AND key = %(key)s AND answer = '';

-- name: forget
-- A few at a time: each command that is kept takes some old ones along.
DELETE FROM repeats
WHERE (owner, key) IN (
    SELECT owner, key FROM repeats
    WHERE at < clock_timestamp() - %(hours)s * interval '1 hour'
    ORDER BY at
    LIMIT 20
    FOR UPDATE SKIP LOCKED
);
