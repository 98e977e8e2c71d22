-- Maintenance: `ganzhi migrate --maintain`. As the owner of the tables.

-- name: try_lock
SELECT pg_try_advisory_lock(hashtext('ganzhi.maintain'))

-- name: unlock
SELECT pg_advisory_unlock(hashtext('ganzhi.maintain'))

-- name: now
SELECT now()

-- name: session
-- Steps may take long, but wait for a lock only so long: whoever comes after them in its queue waits too.
-- The limit of decompressed rows is the slices' own. Rows that a slice decompresses are in no statistics, and the
-- next slice would be joined by nested loops (measured: minutes instead of 2 s).
SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '5s', false),
       set_config('work_mem', '256MB', false), set_config('client_min_messages', 'warning', false),
       set_config('enable_nestloop', 'off', false),
       set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', false)

-- name: limit_statement
SELECT set_config('statement_timeout', %s, false)

-- name: note
INSERT INTO maintenance (job, subject, rows, until, bytes_before, bytes_after) VALUES (%s, %s, %s, %s, %s, %s)

-- name: chunk_interval
SELECT set_chunk_time_interval('reading', make_interval(hours => %s))

-- name: days_ahead
-- Partitions of the next days, so that no batch has to make them at midnight.
SELECT ensure_days(parent, ARRAY(SELECT current_date + n FROM generate_series(0, 3) AS n))
FROM unnest(ARRAY['reading', 'event']::regclass[]) AS parent

-- name: spans_timescale
-- Chunks of readings, the oldest first: span, rows and batches written, whether it is compressed in order, bytes.
SELECT chunk.oid::regclass::text, range_start, range_end,
       pg_stat_get_tuples_inserted(chunk.oid) + coalesce(pg_stat_get_tuples_inserted(compress_relid), 0),
       _timescaledb_functions.chunk_status_text(chunk.oid) = '{COMPRESSED}',
       pg_total_relation_size(chunk.oid) + coalesce(pg_total_relation_size(compress_relid), 0)
FROM timescaledb_information.chunks
CROSS JOIN LATERAL (SELECT format('%I.%I', chunk_schema, chunk_name)::regclass::oid AS oid) AS chunk
LEFT JOIN _timescaledb_catalog.compression_settings ON relid = chunk.oid
WHERE hypertable_schema = 'public' AND hypertable_name = 'reading'
ORDER BY range_start

-- name: spans_postgres
-- The same of partitions, a day (UTC) each; none is compressed.
SELECT inhrelid::regclass::text, day, day + interval '1 day', pg_stat_get_tuples_inserted(inhrelid), NULL::bool,
       pg_total_relation_size(inhrelid)
FROM pg_inherits CROSS JOIN LATERAL to_timestamp(right(inhrelid::regclass::text, 8), 'YYYYMMDD') AS day
WHERE inhparent = 'reading'::regclass
ORDER BY day

-- name: look
-- How long a span has been as it is, when duplicates were last looked for, whether it changed since, and whether a
-- look broke off.
INSERT INTO maintenance_span AS seen (subject, written, changed_at) VALUES (%s, %s, now())
ON CONFLICT (subject) DO UPDATE
    SET changed_at = CASE WHEN seen.written = excluded.written THEN seen.changed_at ELSE now() END,
        written = excluded.written
RETURNING now() - changed_at, now() - done_at, written IS DISTINCT FROM done_written, pending

-- name: begin
-- A chunk that was put in order no longer shows that it changed; if the look breaks off, this does.
UPDATE maintenance_span SET pending = true WHERE subject = %s

-- name: done
UPDATE maintenance_span SET done_written = written, done_at = now(), pending = false WHERE subject = %s

-- name: forget
DELETE FROM maintenance_span WHERE subject <> ALL(%s)

-- name: again_table
CREATE TEMPORARY TABLE IF NOT EXISTS again (
    terminal_id int, metric_id smallint, observed_at timestamptz, n bigint, differ bool, repeats bool
)

-- name: again_clear
TRUNCATE again

-- name: find
-- Times at which a terminal has several readings of a metric. Those whose time is the arrival's may rightly be equal.
-- Whether some are equal follows, but for three or more of which some differ.
INSERT INTO again
SELECT terminal_id, metric_id, observed_at, count(*), min(value) <> max(value),
       CASE WHEN min(value) = max(value) THEN true WHEN count(*) = 2 THEN false END
FROM reading
WHERE observed_at >= %s AND observed_at < %s AND quality & 2 = 0
GROUP BY 1, 2, 3 HAVING count(*) > 1

-- name: again_analyze
-- Autovacuum does not see temporary tables, and for one without statistics the join is by nested loops.
ANALYZE again

-- name: undecided
SELECT EXISTS (SELECT FROM again WHERE repeats IS NULL)

-- name: decide
-- Few, as a rule; count(DISTINCT) for all of a chunk would sort it.
UPDATE again SET repeats = counted.repeats
FROM (SELECT terminal_id, metric_id, observed_at, count(*) > count(DISTINCT reading.value) AS repeats
      FROM reading JOIN again USING (terminal_id, metric_id, observed_at)
      WHERE again.repeats IS NULL AND observed_at >= %s AND observed_at < %s AND reading.quality & 2 = 0
      GROUP BY 1, 2, 3) AS counted
WHERE again.repeats IS NULL AND counted.terminal_id = again.terminal_id AND counted.metric_id = again.metric_id
  AND counted.observed_at = again.observed_at

-- name: differing
SELECT count(*) FROM again WHERE differ

-- name: slices
-- Ranges of terminals with about so many readings in each, of which some are equal.
SELECT min(terminal_id), max(terminal_id) FROM (
    SELECT terminal_id, (sum(n) OVER (ORDER BY terminal_id) - n) / %s::bigint AS slice
    FROM (SELECT terminal_id, sum(n)::bigint AS n FROM again WHERE repeats GROUP BY 1) AS terminals
) AS sliced
GROUP BY slice::bigint ORDER BY 1

-- name: leave_one
-- Takes equal readings out and puts one of each back, the one with the fewest flags: a compressed row has no
-- address of its own by which it could be kept. What comes meanwhile is left to the next pass.
WITH gone AS (
    DELETE FROM reading USING again
    WHERE reading.observed_at >= %(since)s AND reading.observed_at < %(until)s
      AND reading.terminal_id BETWEEN %(low)s AND %(high)s AND again.terminal_id BETWEEN %(low)s AND %(high)s
      AND reading.terminal_id = again.terminal_id AND reading.metric_id = again.metric_id
      AND reading.observed_at = again.observed_at AND reading.quality & 2 = 0
      AND again.repeats
    RETURNING reading.*
), kept AS (
    INSERT INTO reading
    SELECT DISTINCT ON (terminal_id, metric_id, observed_at, value) * FROM gone
    ORDER BY terminal_id, metric_id, observed_at, value, quality
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM kept)

-- name: recompress
SELECT compress_chunk(%s::regclass, recompress => true)

-- name: may_compact
-- TimescaleDB 2.29 and later.
SELECT to_regprocedure('_timescaledb_functions.compact_chunk(regclass, integer)') IS NOT NULL

-- name: compact
-- Puts batches that overlap in order, where they lie; a COPY into the chunk goes on meanwhile. It leaves the room
-- of the old ones behind. Rows that are not compressed it does not touch.
SELECT _timescaledb_functions.compact_chunk(%s::regclass)

-- name: is_out_of_order
-- And nothing else: no row of it is uncompressed.
SELECT _timescaledb_functions.chunk_status_text(%s::regclass) = '{COMPRESSED,UNORDERED}'

-- name: compacted
-- Whether a chunk was put in order where it lay, and not written anew since.
SELECT coalesce((SELECT job = 'compact' FROM maintenance
                 WHERE subject = %s AND job IN ('compact', 'recompress') ORDER BY at DESC LIMIT 1), false)

-- name: vacuum
-- Frees the room of what was decompressed or compacted, also the columnstore's; the end of a table goes back to
-- the disk only if nobody waits for it.
VACUUM {}

-- name: duplicates_removed
-- For the metric: in all, since the database was made. By an index that holds nothing else.
SELECT coalesce(sum(rows), 0)::bigint FROM maintenance WHERE job = 'duplicates'

-- name: dropped_until
-- Below it raw readings or rollups were dropped: a refresh over it would delete rollups (measured).
SELECT max(until) FROM maintenance WHERE job IN ('drop_raw', 'drop_rollups')

-- name: drop_raw
SELECT drop_raw(%s)

-- name: drop_rollups
SELECT count(*) FROM (
    SELECT drop_chunks('reading_hourly', %(before)s) UNION ALL SELECT drop_chunks('reading_daily', %(before)s)
) AS gone

-- name: refresh
CALL refresh_continuous_aggregate(%s::regclass, %s, %s)

-- name: ledger
-- A slice in the order of keys, as workers insert. A row goes when it is older than the horizon and settled: its
-- client has come back since, if it was away, and committed what it had left unacknowledged.
WITH upper AS (
    SELECT coalesce((SELECT key FROM ledger WHERE key > %(after)s AND key <= %(until)s
                     ORDER BY key OFFSET %(rows)s LIMIT 1), %(until)s) AS key
), gone AS (
    DELETE FROM ledger USING ledger_client
    WHERE ledger_client.id = ledger.client AND ledger.seen_at < ledger_client.settled_at
      AND ledger.seen_at < now() - %(horizon)s
      AND ledger.key > %(after)s AND ledger.key <= (SELECT key FROM upper)
    RETURNING 1
)
SELECT (SELECT key FROM upper), (SELECT count(*) FROM gone)

-- name: ledger_timeless
DELETE FROM ledger_timeless USING ledger_client
WHERE ledger_client.id = ledger_timeless.client
  AND ledger_timeless.seen_at < ledger_client.settled_at
  AND ledger_timeless.seen_at < now() - %s

-- name: vacuum_ledger
-- Without giving pages back to the disk: that locks out writers, and the next hour needs them.
VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) ledger

-- name: heard
-- The oldest first, until a slice has nothing left to remove. Once an observer has stored a snapshot, it takes them
-- itself: what is left it has yet to take.
DELETE FROM heard
WHERE heard_at < now() - CASE WHEN EXISTS (SELECT FROM presence) THEN %s ELSE %s END
  AND id <= (SELECT min(id) FROM heard) + 5000

-- name: rejection
DELETE FROM rejection WHERE received_at < now() - %s AND id <= (SELECT min(id) FROM rejection) + 5000

-- name: gateway_sequence
DELETE FROM gateway_sequence WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM gateway_sequence WHERE seen_on < (now() - %s)::date LIMIT 5000))
