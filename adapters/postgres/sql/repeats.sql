-- Answers to repeated commands. An attempt is one transaction that holds the lock of its key.

-- name: lock
SELECT pg_try_advisory_xact_lock(hashtextextended(%(owner)s || chr(1) || %(key)s, 7461626865));

-- name: find
SELECT digest, answer FROM repeats WHERE owner = %(owner)s AND key = %(key)s;

-- name: keep
INSERT INTO repeats (owner, key, digest, answer, at)
VALUES (%(owner)s, %(key)s, %(digest)s, %(answer)s, clock_timestamp());

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
