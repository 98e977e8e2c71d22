-- The reads that people make, as dashboards write them: each takes 200 ms or less at 100 million readings.

-- name: terminal_last
-- One terminal's last readings.
SELECT observed_at, metric, unit, value, quality FROM terminal_last(%(terminal)s, %(count)s)

-- name: terminal_day
-- One terminal's day.
SELECT observed_at, metric, unit, value, quality
FROM terminal_readings(%(terminal)s, %(day)s, %(day)s + interval '1 day')

-- name: cell_month
-- A cell's hourly mean over a period.
SELECT bucket, sum / n AS mean, min, max, n FROM reading_hourly
WHERE cell_id = (SELECT id FROM cell WHERE division = %(division)s AND domain = %(domain)s)
  AND metric_id = (SELECT id FROM metric WHERE name = %(metric)s)
  AND bucket >= %(from)s AND bucket < %(to)s
ORDER BY bucket

-- name: cells_hour
-- Every cell's last hour.
SELECT cell.division, cell.domain, metric.name AS metric, metric.unit, hour.n, hour.sum / hour.n AS mean,
       hour.min, hour.max
FROM reading_hourly AS hour
JOIN cell ON cell.id = hour.cell_id
JOIN metric ON metric.id = hour.metric_id
WHERE hour.bucket >= date_trunc('hour', %(to)s::timestamptz) - interval '1 hour'
  AND hour.bucket < date_trunc('hour', %(to)s::timestamptz)

-- name: gateways_silent
-- The gateways that were silent longest; one that was never seen is in none.
SELECT name, division, owner, contact, last_seen, now() - last_seen AS silent FROM gateway
WHERE last_seen IS NOT NULL AND state IS DISTINCT FROM 'retired'
ORDER BY last_seen LIMIT 20

-- name: terminal_span
-- First and last reading of each metric of a terminal.
SELECT metric, unit, first_at, first_value, last_at, last_value FROM terminal_span(%(terminal)s)
