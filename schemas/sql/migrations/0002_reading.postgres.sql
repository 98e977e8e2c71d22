-- Readings and events on plain PostgreSQL: a partition a day (UTC), made for the days that a batch holds.

CREATE TABLE reading (
    observed_at timestamptz NOT NULL,
    terminal_id int NOT NULL,
    metric_id   smallint NOT NULL,
    cell_id     smallint NOT NULL,
    value       float8 NOT NULL,
    quality     smallint NOT NULL
) PARTITION BY RANGE (observed_at);
CREATE INDEX reading_terminal ON reading (terminal_id, observed_at);
CREATE INDEX reading_time ON reading USING brin (observed_at);

CREATE TABLE event (
    observed_at timestamptz NOT NULL,
    terminal_id int NOT NULL,
    name        text NOT NULL,
    body        jsonb NOT NULL
) PARTITION BY RANGE (observed_at);
CREATE INDEX event_terminal ON event (terminal_id, observed_at);

-- CREATE, then ATTACH: "PARTITION OF" would lock the parent against every reader and writer.
CREATE FUNCTION ensure_days(parent regclass, days date[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    day date;
    child text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ganzhi.ensure_days'));
    FOREACH day IN ARRAY days LOOP
        child := parent::text || to_char(day, '_YYYYMMDD');
        CONTINUE WHEN to_regclass(child) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE %s INCLUDING ALL)', child, parent);
        EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, child,
                       day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
    END LOOP;
END $$;

CREATE VIEW reading_hourly AS
SELECT date_bin('1 hour', observed_at, 'epoch') AS bucket, cell_id, metric_id,
       count(*) AS n, sum(value) AS sum, min(value) AS min, max(value) AS max
FROM reading GROUP BY 1, 2, 3;

CREATE VIEW reading_daily AS
SELECT date_bin('1 day', observed_at, 'epoch') AS bucket, terminal_id, metric_id,
       count(*) AS n, sum(value) AS sum, min(value) AS min, max(value) AS max
FROM reading GROUP BY 1, 2, 3;
