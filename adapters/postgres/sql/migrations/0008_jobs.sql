-- Runs of jobs: one a job and period, whoever looks and how often. Nothing of any tenant.
CREATE TABLE job_run (
    period timestamptz NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    -- When an attempt last failed or was found dead; stays when a later one succeeds.
    failed_at timestamptz,
    attempt integer NOT NULL,
    job text COLLATE "C" NOT NULL,
    state text NOT NULL,
    process text NOT NULL,
    reason text NOT NULL,
    result jsonb NOT NULL,
    PRIMARY KEY (job, period)
) WITH (fillfactor = 70);
