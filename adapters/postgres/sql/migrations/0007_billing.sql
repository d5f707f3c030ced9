-- Billing: the rollup that invoices are rated from, accounts, invoices, numbers.

CREATE TABLE billing_daily (
    tenant_id integer NOT NULL,
    day date NOT NULL,
    byok boolean NOT NULL,
    platform boolean NOT NULL,
    -- Of a row that a rebuild mended, so the next close looks at its day again.
    changed bigint NOT NULL DEFAULT 9223372036854775807,
    provider text COLLATE "C" NOT NULL,
    model text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    price_version text COLLATE "C" NOT NULL,
    rate numeric NOT NULL,
    quantity numeric NOT NULL,
    charge numeric NOT NULL,
    unpriced numeric NOT NULL,
    credit numeric NOT NULL,
    PRIMARY KEY (tenant_id, day, provider, model, meter, byok, platform, price_version, rate)
) WITH (fillfactor = 70);
SELECT isolate('billing_daily');

-- What the stream "billing-<tenant number>" folds to, written in the same commit.
CREATE TABLE billing_accounts (
    tenant_id integer NOT NULL,
    version bigint NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (tenant_id)
) WITH (fillfactor = 50);
SELECT isolate('billing_accounts');

CREATE TABLE invoices (
    tenant_id integer NOT NULL,
    id text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    status text NOT NULL,
    series text NOT NULL,
    number text NOT NULL,
    first_day date NOT NULL,
    after_day date NOT NULL,
    since_day date NOT NULL,
    cites text NOT NULL,
    document bytea NOT NULL,
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX invoices_number_idx ON invoices (tenant_id, series, number) WHERE number <> '';
SELECT isolate('invoices');

-- The last number of each series; locked while one is given, so there is never a gap.
CREATE TABLE invoice_series (
    series text COLLATE "C" PRIMARY KEY,
    last bigint NOT NULL
);
