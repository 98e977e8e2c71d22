-- A look for duplicates that breaks off is taken up again; the ledger waits for a client that comes back.

ALTER TABLE maintenance_span ADD COLUMN pending bool NOT NULL DEFAULT false;
COMMENT ON COLUMN maintenance_span.pending IS 'A look for duplicates began and has not ended.';
-- These were begun and never ended; which of the others broke off once, nothing says.
UPDATE maintenance_span SET pending = done_at IS NULL;

ALTER TABLE ledger_client ADD COLUMN resumed_at timestamptz, ADD COLUMN settled_at timestamptz;
COMMENT ON COLUMN ledger_client.resumed_at IS 'Its first commit since it connected to the database, or since ten minutes without one; empty: none since it connected.';
COMMENT ON COLUMN ledger_client.settled_at IS 'What it stored before this is acknowledged, and the ledger may forget it beyond the horizon; empty: not known.';
