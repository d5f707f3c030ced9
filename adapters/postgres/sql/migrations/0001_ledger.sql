-- The log, and the state rows that the write path keeps in the same commit.

-- Column names are the eventsourcing library's contract; their order wastes no padding.
CREATE TABLE ledger_log (
    originator_version bigint NOT NULL,
    notification_id bigint NOT NULL,
    originator_id text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (originator_id, originator_version)
);
CREATE UNIQUE INDEX ledger_log_notification_id_idx ON ledger_log (notification_id);
-- Commits are mostly ids and numbers: compressing them costs more time than it saves room.
ALTER TABLE ledger_log ALTER COLUMN state SET STORAGE EXTERNAL;
-- Append-only: freeze early and often instead of in one great sweep.
ALTER TABLE ledger_log SET (autovacuum_vacuum_insert_scale_factor = 0.05);

-- How far each projection has read the log; the library's contract.
CREATE TABLE projection_tracking (
    application_name text NOT NULL,
    notification_id bigint NOT NULL,
    PRIMARY KEY (application_name)
);

CREATE TABLE tenants (
    tenant_id integer NOT NULL,
    version bigint NOT NULL,
    shapes integer NOT NULL,
    pending integer NOT NULL,
    conflicts bigint NOT NULL,
    digest bytea NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    currency text NOT NULL,
    timezone text NOT NULL,
    book text NOT NULL,
    PRIMARY KEY (tenant_id)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX tenants_tenant_idx ON tenants (tenant);

-- Idempotency keys, kept forever. The order of columns wastes no padding.
CREATE TABLE usage_keys (
    version bigint NOT NULL,
    tenant_id integer NOT NULL,
    index integer NOT NULL,
    key uuid NOT NULL,
    fingerprint uuid NOT NULL,
    PRIMARY KEY (tenant_id, key)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);

CREATE TABLE shapes (
    tenant_id integer NOT NULL,
    number integer NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (tenant_id, number)
);

CREATE TABLE balances (
    tenant_id integer NOT NULL,
    period text COLLATE "C" NOT NULL,
    charge numeric NOT NULL,
    costs jsonb NOT NULL,
    quantities jsonb NOT NULL,
    events bigint NOT NULL,
    voided bigint NOT NULL,
    unpriced bigint NOT NULL,
    PRIMARY KEY (tenant_id, period)
) WITH (fillfactor = 50);

CREATE TABLE corrections (
    tenant_id integer NOT NULL,
    key uuid NOT NULL,
    void_version bigint,
    void_index integer,
    adjust_version bigint,
    adjust_index integer,
    standing_version bigint,
    standing_index integer,
    PRIMARY KEY (tenant_id, key)
);

CREATE TABLE accumulators (
    tenant_id integer NOT NULL,
    session text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    quantity numeric NOT NULL,
    PRIMARY KEY (tenant_id, session, key)
);

CREATE TABLE unpriced_usage (
    tenant_id integer NOT NULL,
    key uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    source text NOT NULL,
    id text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    PRIMARY KEY (tenant_id, key)
);

CREATE TABLE conflicts (
    tenant_id integer NOT NULL,
    version bigint NOT NULL,
    index integer NOT NULL,
    PRIMARY KEY (tenant_id, version, index)
);

-- Daily rollups, written by the projection of the same name.
CREATE TABLE usage_daily (
    tenant_id integer NOT NULL,
    day date NOT NULL,
    provider text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    usage_user text COLLATE "C" NOT NULL,
    project text COLLATE "C" NOT NULL,
    cost_currency text COLLATE "C" NOT NULL,
    quantity numeric NOT NULL,
    charge numeric NOT NULL,
    cost numeric NOT NULL,
    unpriced numeric NOT NULL,
    PRIMARY KEY (tenant_id, day, provider, model, meter, usage_user, project, cost_currency)
) WITH (fillfactor = 80);
