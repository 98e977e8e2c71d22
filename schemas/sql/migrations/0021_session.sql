-- A worker that comes back knows whether the broker should have a session for it.

ALTER TABLE ledger_client ADD COLUMN ended_at timestamptz;
COMMENT ON COLUMN ledger_client.ended_at IS 'When its session was ended on purpose (ganzhi ingest --drain-client): a commit after that means that it has one again.';
