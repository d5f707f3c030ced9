-- What the migrations lead to; written by adapters/postgres/schema.py, compared by a test.

CREATE TABLE accumulators (
    tenant_id integer NOT NULL,
    session text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    quantity numeric NOT NULL,
    CONSTRAINT accumulators_pkey PRIMARY KEY (tenant_id, session, key)
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
    CONSTRAINT balances_pkey PRIMARY KEY (tenant_id, period)
) WITH (fillfactor=50);

CREATE TABLE budget_counters (
    tenant_id integer NOT NULL,
    budget integer NOT NULL,
    start bigint NOT NULL,
    fired bigint NOT NULL,
    until bigint NOT NULL,
    ladder integer NOT NULL,
    spent numeric NOT NULL,
    held numeric NOT NULL,
    ceiling numeric NOT NULL,
    CONSTRAINT budget_counters_pkey PRIMARY KEY (tenant_id, budget, start)
) WITH (fillfactor=30);

CREATE TABLE budgets (
    tenant_id integer NOT NULL,
    number integer NOT NULL,
    ladder integer NOT NULL,
    terms text NOT NULL,
    CONSTRAINT budgets_pkey PRIMARY KEY (tenant_id, number)
);

CREATE TABLE conflicts (
    tenant_id integer NOT NULL,
    version bigint NOT NULL,
    index integer NOT NULL,
    CONSTRAINT conflicts_pkey PRIMARY KEY (tenant_id, version, index)
);

CREATE TABLE corrections (
    tenant_id integer NOT NULL,
    key uuid NOT NULL,
    void_version bigint,
    void_index integer,
    adjust_version bigint,
    adjust_index integer,
    standing_version bigint,
    standing_index integer,
    reversal bytea,
    CONSTRAINT corrections_pkey PRIMARY KEY (tenant_id, key)
);

CREATE TABLE credit_grants (
    tenant_id integer NOT NULL,
    number integer NOT NULL,
    priority integer NOT NULL,
    at bigint NOT NULL,
    expires_at bigint NOT NULL,
    id text NOT NULL,
    kind text NOT NULL,
    filter text NOT NULL,
    amount numeric NOT NULL,
    held numeric NOT NULL,
    burned numeric NOT NULL,
    withdrawn numeric NOT NULL,
    lapsed numeric NOT NULL,
    expired boolean NOT NULL,
    CONSTRAINT credit_grants_pkey PRIMARY KEY (tenant_id, number)
);

CREATE TABLE holds (
    expires_at bigint NOT NULL,
    tenant_id integer NOT NULL,
    status smallint NOT NULL,
    key uuid NOT NULL,
    body bytea NOT NULL,
    CONSTRAINT holds_pkey PRIMARY KEY (tenant_id, key)
) WITH (autovacuum_vacuum_scale_factor=0.05, fillfactor=70);
ALTER TABLE holds ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX holds_open_idx ON holds USING btree (tenant_id, expires_at) WHERE (status = 0);

CREATE TABLE ledger_log (
    originator_version bigint NOT NULL,
    notification_id bigint NOT NULL,
    originator_id text COLLATE "C" NOT NULL,
    topic text COLLATE "C" NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT ledger_log_pkey PRIMARY KEY (originator_id, originator_version)
) WITH (autovacuum_vacuum_insert_scale_factor=0.05);
ALTER TABLE ledger_log ALTER COLUMN state SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX ledger_log_notification_id_idx ON ledger_log USING btree (notification_id);

CREATE TABLE projection_tracking (
    application_name text NOT NULL,
    notification_id bigint NOT NULL,
    CONSTRAINT projection_tracking_pkey PRIMARY KEY (application_name)
);

CREATE TABLE protection (
    tenant_id integer NOT NULL,
    next_expiry bigint NOT NULL,
    capped boolean NOT NULL,
    credit_required boolean NOT NULL,
    owed numeric NOT NULL,
    entitlements text NOT NULL,
    CONSTRAINT protection_pkey PRIMARY KEY (tenant_id)
) WITH (fillfactor=50);

CREATE TABLE schema_migrations (
    number integer NOT NULL,
    name text NOT NULL,
    digest text NOT NULL,
    applied_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT schema_migrations_pkey PRIMARY KEY (number)
);

CREATE TABLE shapes (
    tenant_id integer NOT NULL,
    number integer NOT NULL,
    body bytea NOT NULL,
    CONSTRAINT shapes_pkey PRIMARY KEY (tenant_id, number)
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
    CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id)
) WITH (fillfactor=50);
CREATE UNIQUE INDEX tenants_tenant_idx ON tenants USING btree (tenant);

CREATE TABLE unpriced_usage (
    tenant_id integer NOT NULL,
    key uuid NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    source text NOT NULL,
    id text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    CONSTRAINT unpriced_usage_pkey PRIMARY KEY (tenant_id, key)
);

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
    CONSTRAINT usage_daily_pkey PRIMARY KEY (tenant_id, day, provider, model, meter, usage_user, project, cost_currency)
) WITH (fillfactor=80);

CREATE TABLE usage_keys (
    version bigint NOT NULL,
    tenant_id integer NOT NULL,
    index integer NOT NULL,
    key uuid NOT NULL,
    fingerprint uuid NOT NULL,
    CONSTRAINT usage_keys_pkey PRIMARY KEY (tenant_id, key)
) WITH (autovacuum_vacuum_insert_scale_factor=0.05);
