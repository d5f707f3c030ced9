-- Row-level security: whoever reads as tallybook_tenant sees the rows of the tenants that the
-- transaction names, and no others; docs/spec/isolation.md.

-- The role is the whole server's: another database of ours may have made it, or make it right now.
DO $migration$
DECLARE
    wanted constant text := format(
        'CREATE ROLE tallybook_tenant NOLOGIN; GRANT tallybook_tenant TO %I;', current_user
    );
    attempts integer := 0;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tallybook_tenant') THEN
        BEGIN
            CREATE ROLE tallybook_tenant NOLOGIN;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL;
            WHEN insufficient_privilege THEN
                RAISE insufficient_privilege USING
                    MESSAGE = format('role %I may not create the role tallybook_tenant', current_user),
                    HINT = wanted;
        END;
    END IF;
    IF EXISTS (
        SELECT FROM pg_roles
        WHERE rolname = 'tallybook_tenant'
            AND (rolsuper OR rolbypassrls OR rolcanlogin OR rolcreaterole OR rolcreatedb)
    ) THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'the role tallybook_tenant may do more than a role without any rights',
            HINT = 'ALTER ROLE tallybook_tenant NOSUPERUSER NOBYPASSRLS NOLOGIN NOCREATEROLE NOCREATEDB;';
    END IF;
    -- What the engine does for a tenant it does as that role, so it must be able to become it.
    LOOP
        BEGIN
            SET LOCAL ROLE tallybook_tenant;
            -- It could: undone with this block.
            RAISE SQLSTATE 'TB000';
        EXCEPTION
            WHEN SQLSTATE 'TB000' THEN
                EXIT;
            WHEN insufficient_privilege THEN
                NULL;
        END;
        attempts := attempts + 1;
        BEGIN
            IF attempts > 20 THEN
                RAISE insufficient_privilege;
            ELSIF current_setting('server_version_num')::integer >= 160000 THEN
                EXECUTE format(
                    'GRANT tallybook_tenant TO %I WITH INHERIT FALSE, SET TRUE', current_user
                );
            ELSE
                EXECUTE format('GRANT tallybook_tenant TO %I', current_user);
            END IF;
        EXCEPTION
            -- Another database's migration grants the same at the same time.
            WHEN unique_violation OR internal_error THEN
                PERFORM pg_sleep(0.05);
            WHEN insufficient_privilege OR invalid_grant_operation THEN
                RAISE insufficient_privilege USING
                    MESSAGE = format('role %I may not become tallybook_tenant', current_user),
                    HINT = format('GRANT tallybook_tenant TO %I;', current_user);
        END;
    END LOOP;
END
$migration$;

-- Numbers of the tenants that this transaction may see: the setting tallybook.tenants, numbers with
-- commas between them; null where it is unset or empty.
CREATE FUNCTION visible_tenants() RETURNS integer[]
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT string_to_array(nullif(current_setting('tallybook.tenants', true), ''), ',')::integer[]
$$;

-- The same as streams of the log.
CREATE FUNCTION visible_streams() RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT array_agg('ledger-' || number)
    FROM unnest(
        string_to_array(nullif(current_setting('tallybook.tenants', true), ''), ',')::integer[]
    ) AS visible (number)
$$;

-- Every migration that makes a table with tenants' data calls this. The tables' owner sees and
-- writes everything; tallybook_tenant reads what it may; nobody else has a policy.
CREATE FUNCTION isolate(
    target regclass,
    visible text DEFAULT 'tenant_id = ANY ((SELECT visible_tenants())::integer[])'
) RETURNS void
LANGUAGE plpgsql
AS $$
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
$$;
REVOKE ALL ON FUNCTION isolate(regclass, text) FROM PUBLIC;

DO $migration$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO tallybook_tenant', current_schema());
END
$migration$;

SELECT isolate(name::regclass)
FROM unnest(ARRAY[
    'tenants', 'usage_keys', 'shapes', 'balances', 'corrections', 'accumulators', 'unpriced_usage',
    'conflicts', 'usage_daily', 'protection', 'budgets', 'budget_counters', 'holds', 'credit_grants'
]) AS isolated (name);
SELECT isolate('ledger_log', 'originator_id = ANY ((SELECT visible_streams())::text[])');

-- How far the rollups are; no tenant's data.
GRANT SELECT ON projection_tracking TO tallybook_tenant;
