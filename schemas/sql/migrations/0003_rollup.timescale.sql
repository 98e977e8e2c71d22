-- Rollups as continuous aggregates. By cell hourly and by terminal only daily: hourly per terminal was
-- measured at 4.8 M groups from 4.85 M rows.

CREATE MATERIALIZED VIEW reading_hourly
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket('1 hour', observed_at) AS bucket, cell_id, metric_id,
       count(*) AS n, sum(value) AS sum, min(value) AS min, max(value) AS max
FROM reading GROUP BY 1, 2, 3
WITH NO DATA;

CREATE MATERIALIZED VIEW reading_daily
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket('1 day', observed_at) AS bucket, terminal_id, metric_id,
       count(*) AS n, sum(value) AS sum, min(value) AS min, max(value) AS max
FROM reading GROUP BY 1, 2, 3
WITH NO DATA;
