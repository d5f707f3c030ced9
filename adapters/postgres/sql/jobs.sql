-- Runs of jobs.

-- name: now
SELECT clock_timestamp();

-- name: last
SELECT {columns}
FROM job_run
WHERE job = %(job)s AND period <= %(upto)s
ORDER BY period DESC
LIMIT 1;

-- Their lock is held by who begins a later period, so nobody works at these any more.
-- name: bury
UPDATE job_run
SET state = 'died', ended_at = clock_timestamp(), failed_at = clock_timestamp(),
    reason = 'died: the process ended without a word'
WHERE job = %(job)s AND period < %(period)s AND state = 'running';

-- name: forget
DELETE FROM job_run
WHERE job = %(job)s AND period < clock_timestamp() - %(days)s * interval '1 day';

-- name: begin
INSERT INTO job_run AS r (
    job, period, state, attempt, started_at, process, reason, result
)
VALUES (
    %(job)s, %(period)s, 'running', %(attempt)s, clock_timestamp(), %(process)s, '', '{{}}'
)
ON CONFLICT (job, period) DO UPDATE
SET state = 'running', attempt = excluded.attempt, started_at = excluded.started_at,
    ended_at = NULL, process = excluded.process, result = excluded.result,
    failed_at = CASE WHEN r.state = 'running' THEN excluded.started_at ELSE r.failed_at END,
    reason = CASE
        WHEN r.state = 'running' THEN 'died: the process ended without a word'
        ELSE r.reason
    END
WHERE r.attempt = excluded.attempt - 1
RETURNING {columns};

-- name: end
UPDATE job_run
SET state = %(state)s, ended_at = clock_timestamp(), result = %(result)s::jsonb,
    failed_at = CASE WHEN %(state)s = 'failed' THEN clock_timestamp() ELSE failed_at END,
    reason = CASE WHEN %(state)s = 'failed' THEN %(reason)s ELSE reason END
WHERE job = %(job)s AND period = %(period)s AND attempt = %(attempt)s AND state = 'running'
RETURNING 1;

-- name: standings
SELECT DISTINCT ON (job)
    {columns},
    max(ended_at) FILTER (WHERE state = 'done') OVER (PARTITION BY job),
    max(failed_at) OVER (PARTITION BY job)
FROM job_run
ORDER BY job, period DESC;

-- name: runs
SELECT {columns}
FROM job_run
WHERE job = %(job)s
ORDER BY period DESC
LIMIT %(limit)s;
