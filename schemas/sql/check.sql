-- What `ganzhi check`, and a worker that connects, ask the server. Reads only.

-- name: server
SELECT current_setting('server_version'),
       current_setting('fsync') = 'on',
       current_setting('synchronous_commit'),
       pg_size_bytes(current_setting('max_wal_size')),
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       pg_database_size(current_database())

-- name: clock
SELECT extract(epoch FROM clock_timestamp())::float8

-- name: long_transactions
-- Whoever keeps a transaction open keeps its locks, and keeps vacuum from cleaning the ledger.
SELECT count(*), coalesce(extract(epoch FROM now() - min(xact_start)), 0)::float8
FROM pg_stat_activity
WHERE datname = current_database() AND state LIKE 'idle in transaction%%'
  AND xact_start < now() - make_interval(secs => %s)

-- name: may_write
-- What a worker writes; or what the observer does, who writes no readings.
SELECT (has_table_privilege('reading', 'INSERT') AND has_table_privilege('ledger', 'INSERT')
        AND has_table_privilege('rejection', 'INSERT'))
    OR has_table_privilege('presence', 'INSERT')

-- name: timescale_version
SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'

-- name: against_direct_compress
-- Either of them turns direct compress off, silently; so does a table without columnstore.
SELECT 'unique index ' || indexrelid::regclass FROM pg_index WHERE indrelid = 'reading'::regclass AND indisunique
UNION ALL
SELECT 'trigger ' || tgname FROM pg_trigger
WHERE tgrelid = 'reading'::regclass AND NOT tgisinternal AND tgname !~ '^(ts|_timescaledb)_'
UNION ALL
SELECT 'no columnstore' WHERE NOT EXISTS (
    SELECT FROM timescaledb_information.hypertables WHERE hypertable_name = 'reading' AND compression_enabled)

-- name: locks
-- How many the server has room for, at least.
SELECT current_setting('max_locks_per_transaction')::bigint * current_setting('max_connections')::bigint

-- name: chunk_span
-- Of chunks to come, in us.
SELECT (extract(epoch FROM time_interval) * 1000000)::bigint
FROM timescaledb_information.dimensions WHERE hypertable_schema = 'public' AND hypertable_name = %s

-- name: chunks
-- From when to when each chunk is, in us since 2000.
SELECT (extract(epoch FROM range_start - '2000-01-01 00:00:00+00') * 1000000)::bigint,
       (extract(epoch FROM range_end - '2000-01-01 00:00:00+00') * 1000000)::bigint
FROM timescaledb_information.chunks WHERE hypertable_schema = 'public' AND hypertable_name = %s ORDER BY 1

-- name: may_read_rollups
SELECT has_table_privilege('reading_hourly', 'SELECT')

-- name: busiest_hour
-- Readings of the busiest hour of the last day, as far as maintenance has rolled them up: newer hours would be
-- counted reading by reading.
SELECT coalesce(max(n), 0)::float8 FROM (
    SELECT sum(n) AS n FROM reading_hourly
    WHERE bucket >= date_trunc('hour', now()) - interval '26 hours'
      AND bucket < date_trunc('hour', now()) - interval '2 hours'
    GROUP BY bucket
) AS hours

-- name: rejections
SELECT pg_total_relation_size('rejection')

-- name: ledger
SELECT pg_total_relation_size('ledger') + pg_total_relation_size('ledger_timeless')
