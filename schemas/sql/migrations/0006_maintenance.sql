-- What maintenance did, and how far it has looked: the same on every storage.

CREATE TABLE maintenance (
    at           timestamptz NOT NULL DEFAULT now(),
    job          text NOT NULL,
    subject      text NOT NULL,
    rows         bigint NOT NULL,
    until        timestamptz,
    bytes_before bigint,
    bytes_after  bigint
);
CREATE INDEX maintenance_job ON maintenance (job, until);

-- Whether rows still come into a chunk can be seen only by looking twice.
CREATE TABLE maintenance_span (
    subject      text PRIMARY KEY,
    written      bigint NOT NULL,
    changed_at   timestamptz NOT NULL,
    done_written bigint,
    done_at      timestamptz
);

-- Rows are written once and deleted once, by key ranges; maintenance vacuums after it has deleted. In between
-- autovacuum is for freezing only: a pass over the index costs as much for few dead rows as for many.
ALTER TABLE ledger SET (autovacuum_vacuum_scale_factor = 0.5, autovacuum_vacuum_insert_scale_factor = 0.5);

COMMENT ON TABLE maintenance IS 'What maintenance changed, a row for each step that changed something.';
COMMENT ON COLUMN maintenance.job IS 'duplicates, differing, recompress, drop_raw, drop_rollups, ledger, ledger_timeless, heard or rejection.';
COMMENT ON COLUMN maintenance.subject IS 'Chunk, partition or table.';
COMMENT ON COLUMN maintenance.rows IS 'Rows removed; differing: readings of one terminal, metric and time with other values, which stay; drop_*: chunks.';
COMMENT ON COLUMN maintenance.until IS 'End of the span it was about; what was dropped before it is never refreshed from.';
COMMENT ON COLUMN maintenance.bytes_before IS 'Size of the chunk before it was recompressed.';
COMMENT ON COLUMN maintenance.bytes_after IS 'Size of the chunk after it was recompressed.';

COMMENT ON TABLE maintenance_span IS 'How far maintenance has looked at each chunk or partition of readings.';
COMMENT ON COLUMN maintenance_span.subject IS 'Chunk or partition.';
COMMENT ON COLUMN maintenance_span.written IS 'Rows (compressed: batches) written to it, as the server counts them.';
COMMENT ON COLUMN maintenance_span.changed_at IS 'When that count was first seen: quiet since then.';
COMMENT ON COLUMN maintenance_span.done_written IS 'The count when duplicates were last looked for.';
COMMENT ON COLUMN maintenance_span.done_at IS 'When duplicates were last looked for.';

-- Lent to whoever runs maintenance without owning the tables. Days end in UTC.
CREATE FUNCTION drop_raw(before timestamptz) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    child regclass;
    dropped int := 0;
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        EXECUTE 'SELECT count(*) FROM (SELECT drop_chunks(''reading'', $1) UNION ALL SELECT drop_chunks(''event'', $1)) AS gone'
            INTO dropped USING before;
        RETURN dropped;
    END IF;
    FOR child IN
        SELECT inhrelid FROM pg_inherits
        WHERE inhparent IN ('reading'::regclass, 'event'::regclass)
          AND to_timestamp(right(inhrelid::regclass::text, 8), 'YYYYMMDD') + interval '1 day' <= before
    LOOP
        EXECUTE format('DROP TABLE %s', child);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;
REVOKE EXECUTE ON FUNCTION drop_raw(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION drop_raw(timestamptz) IS 'Drops chunks or partitions of readings and events that end before; answers how many.';
