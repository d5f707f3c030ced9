-- Answers to commands without an id of their own, for at least a day.

CREATE TABLE repeats (
    owner text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    answer bytea NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (owner, key)
);
CREATE INDEX repeats_at_idx ON repeats (at);
