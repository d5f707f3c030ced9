-- What the migrations lead to; written by adapters/postgres/schema.py, compared by a test.

CREATE ROLE tallybook_tenant NOLOGIN;

CREATE OR REPLACE FUNCTION isolate(target regclass, visible text DEFAULT 'tenant_id = ANY ((SELECT visible_tenants())::integer[])'::text)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', target);
    EXECUTE format(
        'CREATE POLICY engine ON %s TO %I USING (true) WITH CHECK (true)', target, current_user
    );
    EXECUTE format(
        'CREATE POLICY tenant ON %s FOR SELECT TO tallybook_tenant USING (%s)', target, visible
    );
    EXECUTE format('GRANT SELECT ON %s TO tallybook_tenant', target);
END
$function$;

CREATE OR REPLACE FUNCTION visible_streams()
 RETURNS text[]
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$
    SELECT array_agg('ledger-' || number)
    FROM unnest(
        string_to_array(nullif(current_setting('tallybook.tenants', true), ''), ',')::integer[]
    ) AS visible (number)
$function$;

CREATE OR REPLACE FUNCTION visible_tenants()
 RETURNS integer[]
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$
    SELECT string_to_array(nullif(current_setting('tallybook.tenants', true), ''), ',')::integer[]
$function$;

CREATE TABLE accumulators (
    tenant_id integer NOT NULL,
    session text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    quantity numeric NOT NULL,
    CONSTRAINT accumulators_pkey PRIMARY KEY (tenant_id, session, key)
);
ALTER TABLE accumulators ENABLE ROW LEVEL SECURITY;
ALTER TABLE accumulators FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON accumulators TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON accumulators FOR SELECT TO tallybook_tenant USING ((tenant_id = ANY (( SELECT visible_tenants() AS visible_tenants)::integer[])));

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
ALTER TABLE balances ENABLE ROW LEVEL SECURITY;
ALTER TABLE balances FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON balances TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON balances FOR SELECT TO tallybook_tenant USING ((tenant_id = ANY (( SELECT visible_tenants() AS visible_tenants)::integer[])));

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
ALTER TABLE budget_counters ENABLE ROW LEVEL SECURITY;
ALTER TABLE budget_counters FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON budget_counters TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON budget_counters FOR SELECT TO tallybook_tenant USING ((tenant_id = ANY (( SELECT visible_tenants() AS visible_tenants)::integer[])));

CREATE TABLE budget_news (
    at bigint NOT NULL,
    position bigint NOT NULL,
    tenant_id integer NOT NULL,
    place integer NOT NULL,
    budget integer NOT NULL,
    body bytea NOT NULL,
    CONSTRAINT budget_news_pkey PRIMARY KEY (tenant_id, "position", place)
);
CREATE INDEX budget_news_position_idx ON budget_news USING btree ("position");
ALTER TABLE budget_news ENABLE ROW LEVEL SECURITY;
ALTER TABLE budget_news FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON budget_news TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON budget_news FOR SELECT TO tallybook_tenant USING ((tenant_id = ANY (( SELECT visible_tenants() AS visible_tenants)::integer[])));

CREATE TABLE budgets (
    tenant_id integer NOT NULL,
    number integer NOT NULL,
    ladder integer NOT NULL,
    terms text NOT NULL,
    CONSTRAINT budgets_pkey PRIMARY KEY (tenant_id, number)
);
ALTER TABLE budgets ENABLE ROW LEVEL SECURITY;
ALTER TABLE budgets FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON budgets TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON budgets FOR SELECT TO tallybook_tenant USING ((tenant_id = ANY (( SELECT visible_tenants() AS visible_tenants)::integer[])));

CREATE TABLE conflicts (
    tenant_id integer NOT NULL,
    version bigint NOT NULL,
    index integer NOT NULL,
    CONSTRAINT conflicts_pkey PRIMARY KEY (tenant_id, version, index)
);
ALTER TABLE conflicts ENABLE ROW LEVEL SECURITY;
ALTER TABLE conflicts FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON conflicts TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON conflicts FOR SELECT TO tallybook_tenant USING ((tenant_id = ANY (( SELECT visible_tenants() AS visible_tenants)::integer[])));

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
ALTER TABLE corrections ENABLE ROW LEVEL SECURITY;
ALTER TABLE corrections FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON corrections TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON corrections FOR SELECT TO tallybook_tenant USING ((tenant_id = ANY (( SELECT visible_tenants() AS visible_tenants)::integer[])));

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
ALTER TABLE credit_grants ENABLE ROW LEVEL SECURITY;
ALTER TABLE credit_grants FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON credit_grants TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON credit_grants FOR SELECT TO tallybook_tenant USING ((tenant_id = ANY (( SELECT visible_tenants() AS visible_tenants)::integer[])));

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
ALTER TABLE holds ENABLE ROW LEVEL SECURITY;
ALTER TABLE holds FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON holds TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON holds FOR SELECT TO tallybook_tenant USING ((tenant_id = ANY (( SELECT visible_tenants() AS visible_tenants)::integer[])));

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
ALTER TABLE ledger_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger_log FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON ledger_log TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON ledger_log FOR SELECT TO tallybook_tenant USING ((originator_id = ANY (( SELECT visible_streams() AS visible_streams)::text[])));

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
ALTER TABLE protection ENABLE ROW LEVEL SECURITY;
ALTER TABLE protection FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON protection TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON protection FOR SELECT TO tallybook_tenant USING ((tenant_id = ANY (( SELECT visible_tenants() AS visible_tenants)::integer[])));

CREATE TABLE repeats (
    owner text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    answer bytea NOT NULL,
    at timestamp with time zone NOT NULL,
    CONSTRAINT repeats_pkey PRIMARY KEY (owner, key)
);
CREATE INDEX repeats_at_idx ON repeats USING btree (at);

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
ALTER TABLE shapes ENABLE ROW LEVEL SECURITY;
ALTER TABLE shapes FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON shapes TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON shapes FOR SELECT TO tallybook_tenant USING ((tenant_id = ANY (( SELECT visible_tenants() AS visible_tenants)::integer[])));

CREATE TABLE stream_sessions (
    tenant text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    attachment bigint NOT NULL,
    acked bigint NOT NULL,
    ended boolean NOT NULL,
    attribution text NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    CONSTRAINT stream_sessions_pkey PRIMARY KEY (tenant, session)
) WITH (fillfactor=50);
ALTER TABLE stream_sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE stream_sessions FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON stream_sessions TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON stream_sessions FOR SELECT TO tallybook_tenant USING ((tenant IN ( SELECT known.tenant
   FROM tenants known)));

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
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON tenants TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON tenants FOR SELECT TO tallybook_tenant USING ((tenant_id = ANY (( SELECT visible_tenants() AS visible_tenants)::integer[])));

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
ALTER TABLE unpriced_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE unpriced_usage FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON unpriced_usage TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON unpriced_usage FOR SELECT TO tallybook_tenant USING ((tenant_id = ANY (( SELECT visible_tenants() AS visible_tenants)::integer[])));

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
ALTER TABLE usage_daily ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_daily FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON usage_daily TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON usage_daily FOR SELECT TO tallybook_tenant USING ((tenant_id = ANY (( SELECT visible_tenants() AS visible_tenants)::integer[])));

CREATE TABLE usage_keys (
    version bigint NOT NULL,
    tenant_id integer NOT NULL,
    index integer NOT NULL,
    key uuid NOT NULL,
    fingerprint uuid NOT NULL,
    CONSTRAINT usage_keys_pkey PRIMARY KEY (tenant_id, key)
) WITH (autovacuum_vacuum_insert_scale_factor=0.05);
ALTER TABLE usage_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY engine ON usage_keys TO OWNER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON usage_keys FOR SELECT TO tallybook_tenant USING ((tenant_id = ANY (( SELECT visible_tenants() AS visible_tenants)::integer[])));

GRANT SELECT ON accumulators TO tallybook_tenant;
GRANT SELECT ON balances TO tallybook_tenant;
GRANT SELECT ON budget_counters TO tallybook_tenant;
GRANT SELECT ON budget_news TO tallybook_tenant;
GRANT SELECT ON budgets TO tallybook_tenant;
GRANT SELECT ON conflicts TO tallybook_tenant;
GRANT SELECT ON corrections TO tallybook_tenant;
GRANT SELECT ON credit_grants TO tallybook_tenant;
GRANT SELECT ON holds TO tallybook_tenant;
GRANT SELECT ON ledger_log TO tallybook_tenant;
GRANT SELECT ON projection_tracking TO tallybook_tenant;
GRANT SELECT ON protection TO tallybook_tenant;
GRANT SELECT ON shapes TO tallybook_tenant;
GRANT SELECT ON stream_sessions TO tallybook_tenant;
GRANT SELECT ON tenants TO tallybook_tenant;
GRANT SELECT ON unpriced_usage TO tallybook_tenant;
GRANT SELECT ON usage_daily TO tallybook_tenant;
GRANT SELECT ON usage_keys TO tallybook_tenant;
GRANT EXECUTE ON FUNCTION visible_streams() TO PUBLIC;
GRANT EXECUTE ON FUNCTION visible_tenants() TO PUBLIC;
GRANT USAGE ON SCHEMA SELF TO tallybook_tenant;
