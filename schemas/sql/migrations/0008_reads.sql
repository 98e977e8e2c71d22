-- Reads of one terminal. They look its id up first: a join on the code would unpack whole chunks (measured:
-- 370 ms for a day that takes 5 ms by id). Plans are made for the values given, so that chunks or partitions
-- without them are left out when planning, which over hundreds of chunks is most of the time.
-- No index on reading: see 0002.

CREATE FUNCTION readings_since() RETURNS timestamptz
LANGUAGE plpgsql STABLE AS $$
DECLARE
    since timestamptz := '-infinity';
BEGIN
    IF to_regclass('timescaledb_information.chunks') IS NOT NULL THEN
        SELECT min(chunks.range_start) INTO since FROM timescaledb_information.chunks
        WHERE chunks.hypertable_schema = 'public' AND chunks.hypertable_name = 'reading';
    END IF;
    RETURN since;
END $$;
COMMENT ON FUNCTION readings_since() IS 'From when on single readings are kept; rollups outlive them.';

CREATE FUNCTION terminal_readings(code text, since timestamptz, until timestamptz)
RETURNS TABLE (observed_at timestamptz, metric text, unit text, value float8, quality smallint)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    asked int := (SELECT terminal.id FROM terminal WHERE terminal.code = terminal_readings.code);
BEGIN
    RETURN QUERY
    SELECT reading.observed_at, metric.name, metric.unit, reading.value, reading.quality
    FROM reading JOIN metric ON metric.id = reading.metric_id
    WHERE reading.terminal_id = asked
      AND reading.observed_at >= since AND reading.observed_at < until
    ORDER BY reading.observed_at;
END $$;
COMMENT ON FUNCTION terminal_readings(text, timestamptz, timestamptz) IS
    'Readings of a terminal in a period, oldest first.';

-- Goes back over the days that the terminal is known to have readings of, until it has enough.
CREATE FUNCTION terminal_last(code text, wanted int DEFAULT 100)
RETURNS TABLE (observed_at timestamptz, metric text, unit text, value float8, quality smallint)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    asked int := (SELECT terminal.id FROM terminal WHERE terminal.code = terminal_last.code);
    since timestamptz := readings_since() - interval '1 day';
    missing int := wanted;
    found_here int;
    day timestamptz;
BEGIN
    FOR day IN
        SELECT DISTINCT reading_daily.bucket FROM reading_daily
        WHERE reading_daily.terminal_id = asked AND reading_daily.bucket >= since ORDER BY 1 DESC
    LOOP
        RETURN QUERY
        SELECT reading.observed_at, metric.name, metric.unit, reading.value, reading.quality
        FROM reading JOIN metric ON metric.id = reading.metric_id
        WHERE reading.terminal_id = asked
          AND reading.observed_at >= day AND reading.observed_at < day + interval '1 day'
        ORDER BY reading.observed_at DESC LIMIT missing;
        GET DIAGNOSTICS found_here = ROW_COUNT;
        missing := missing - found_here;
        EXIT WHEN missing <= 0;
    END LOOP;
END $$;
COMMENT ON FUNCTION terminal_last(text, int) IS
    'Newest readings of a terminal, newest first. A late one counts once the rollup of its day is refreshed.';

CREATE FUNCTION terminal_span(code text)
RETURNS TABLE (metric text, unit text, first_at timestamptz, first_value float8,
               last_at timestamptz, last_value float8)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    asked int := (SELECT terminal.id FROM terminal WHERE terminal.code = terminal_span.code);
    since timestamptz := readings_since() - interval '1 day';
    days record;
BEGIN
    FOR days IN
        SELECT reading_daily.metric_id, min(reading_daily.bucket) AS oldest, max(reading_daily.bucket) AS newest
        FROM reading_daily
        WHERE reading_daily.terminal_id = asked AND reading_daily.bucket >= since GROUP BY 1
    LOOP
        -- Of the oldest day only a part may be kept, without this metric: hence two days.
        RETURN QUERY
        SELECT metric.name, metric.unit, oldest.observed_at, oldest.value, newest.observed_at, newest.value
        FROM metric LEFT JOIN LATERAL (
            SELECT reading.observed_at, reading.value FROM reading
            WHERE reading.terminal_id = asked AND reading.metric_id = days.metric_id
              AND reading.observed_at >= days.oldest AND reading.observed_at < days.oldest + interval '2 days'
            ORDER BY reading.observed_at LIMIT 1
        ) oldest ON true LEFT JOIN LATERAL (
            SELECT reading.observed_at, reading.value FROM reading
            WHERE reading.terminal_id = asked AND reading.metric_id = days.metric_id
              AND reading.observed_at >= days.newest AND reading.observed_at < days.newest + interval '1 day'
            ORDER BY reading.observed_at DESC LIMIT 1
        ) newest ON true
        WHERE metric.id = days.metric_id;
    END LOOP;
END $$;
COMMENT ON FUNCTION terminal_span(text) IS 'First and last reading that is kept of each metric of a terminal.';

-- The rollups of the postgres storage are views, whose buckets say nothing about partitions: these find the
-- pages of a period. BRIN, as the readings come in order of time: 24 bytes for 128 pages.
DO $$ BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = 'reading'::regclass) = 'p' THEN
        CREATE INDEX reading_hour ON reading USING brin (date_bin('1 hour', observed_at, 'epoch'));
        CREATE INDEX reading_day ON reading USING brin (date_bin('1 day', observed_at, 'epoch'));
    END IF;
END $$;
