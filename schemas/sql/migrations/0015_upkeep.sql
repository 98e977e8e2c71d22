-- Chunks that readings come to are put in order where they lie (TimescaleDB 2.29).

COMMENT ON COLUMN maintenance.job IS 'duplicates, differing, compact, recompress, drop_raw, drop_rollups, ledger, ledger_timeless, heard or rejection.';
COMMENT ON COLUMN maintenance.bytes_before IS 'Size of the chunk before it was put in order.';
COMMENT ON COLUMN maintenance.bytes_after IS 'Size of the chunk after it was put in order; compact leaves the room of what it replaced.';

-- Asked for each quiet chunk: how it was put in order last.
CREATE INDEX maintenance_order ON maintenance (subject, at) WHERE job IN ('compact', 'recompress');
-- Asked for a metric, every half minute.
CREATE INDEX maintenance_duplicates ON maintenance (job) INCLUDE (rows) WHERE job = 'duplicates';
