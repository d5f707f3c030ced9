-- Cost protection: budgets and their counters, holds, credit, entitlements; docs/spec/holds.md.

-- One row for each ledger that has any of it.
CREATE TABLE protection (
    tenant_id integer NOT NULL,
    next_expiry bigint NOT NULL,
    capped boolean NOT NULL,
    credit_required boolean NOT NULL,
    owed numeric NOT NULL,
    entitlements text NOT NULL,
    PRIMARY KEY (tenant_id)
) WITH (fillfactor = 50);

CREATE TABLE budgets (
    tenant_id integer NOT NULL,
    number integer NOT NULL,
    ladder integer NOT NULL,
    terms text NOT NULL,
    PRIMARY KEY (tenant_id, number)
);

-- Counters are whole numbers: money x 10^18, quantities x 10^6, as the budget measures.
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
    PRIMARY KEY (tenant_id, budget, start)
) WITH (fillfactor = 30);

-- Holds are kept for ever: their ids are idempotency keys. Status 0 is open.
CREATE TABLE holds (
    expires_at bigint NOT NULL,
    tenant_id integer NOT NULL,
    status smallint NOT NULL,
    key uuid NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (tenant_id, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE holds ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX holds_open_idx ON holds (tenant_id, expires_at) WHERE status = 0;

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
    PRIMARY KEY (tenant_id, number)
);

-- What reversals took back of an event's charge.
ALTER TABLE corrections ADD COLUMN reversal bytea;
