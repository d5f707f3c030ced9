-- Row-level security: becoming the role that sees only some tenants' rows.

-- Both settings end with the transaction. The first is read as the engine, which knows all numbers.
-- name: become_tenant
SELECT
    set_config(
        'tallybook.tenants',
        coalesce(
            (SELECT string_agg(tenant_id::text, ',') FROM tenants WHERE tenant = ANY (%(tenants)s)),
            ''
        ),
        true
    ),
    set_config('role', 'tallybook_tenant', true);
