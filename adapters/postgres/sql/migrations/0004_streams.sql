-- Sessions of gateways over WebSocket, and the news of budgets that reach them; docs/spec/stream.md.

-- By name: a session may begin before its tenant's ledger does. How far it has come may lag behind
-- the log and never runs ahead of it.
CREATE TABLE stream_sessions (
    tenant text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    attachment bigint NOT NULL,
    acked bigint NOT NULL,
    ended boolean NOT NULL,
    attribution text NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, session)
) WITH (fillfactor = 50);

-- A copy of what the log says, in its order, for processes that wait; kept for a day.
CREATE TABLE budget_news (
    at bigint NOT NULL,
    position bigint NOT NULL,
    tenant_id integer NOT NULL,
    place integer NOT NULL,
    budget integer NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (tenant_id, position, place)
);
CREATE INDEX budget_news_position_idx ON budget_news (position);

SELECT isolate('stream_sessions', 'tenant IN (SELECT known.tenant FROM tenants AS known)');
SELECT isolate('budget_news');
