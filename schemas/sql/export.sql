-- What `ganzhi export` reads. Tables are named without their schema: a city's reader means its own views.
-- The last conditions are alike; NULL stands for all.

-- name: csv
COPY ({rows}) TO STDOUT (FORMAT csv, HEADER)

-- name: readings
-- As reading_detail, which has no ids: by its code a terminal's readings are looked for in all of them.
SELECT observed_at, terminal.code AS terminal, metric.name AS metric, metric.unit, value, quality, cell.division, cell.domain
FROM reading JOIN terminal ON terminal.id = terminal_id JOIN metric ON metric.id = metric_id JOIN cell ON cell.id = cell_id
WHERE observed_at >= %(since)s::timestamptz AND observed_at < %(until)s::timestamptz
  AND (%(divisions)s::int[] IS NULL OR cell.division = ANY (%(divisions)s::int[]))
  AND (%(domain)s::text IS NULL OR cell.domain = %(domain)s::text)
  AND (%(terminals)s::int[] IS NULL OR terminal_id = ANY (%(terminals)s::int[]))

-- name: events
-- Division and domain are the terminal's of today.
SELECT observed_at, terminal.code AS terminal, event.name AS event, body::text AS body, terminal.division, terminal.domain
FROM event JOIN terminal ON terminal.id = terminal_id
WHERE observed_at >= %(since)s::timestamptz AND observed_at < %(until)s::timestamptz
  AND (%(divisions)s::int[] IS NULL OR terminal.division = ANY (%(divisions)s::int[]))
  AND (%(domain)s::text IS NULL OR terminal.domain = %(domain)s::text)
  AND (%(terminals)s::int[] IS NULL OR terminal_id = ANY (%(terminals)s::int[]))

-- name: hourly
SELECT bucket, cell.division, cell.domain, metric.name AS metric, metric.unit, n, sum, min, max
FROM reading_hourly JOIN cell ON cell.id = cell_id JOIN metric ON metric.id = metric_id
WHERE bucket >= %(since)s::timestamptz AND bucket < %(until)s::timestamptz
  AND (%(divisions)s::int[] IS NULL OR cell.division = ANY (%(divisions)s::int[]))
  AND (%(domain)s::text IS NULL OR cell.domain = %(domain)s::text)

-- name: daily
-- By terminal; division and domain are the terminal's of today.
SELECT bucket, terminal.code AS terminal, metric.name AS metric, metric.unit, n, sum, min, max,
       terminal.division, terminal.domain
FROM reading_daily JOIN terminal ON terminal.id = terminal_id JOIN metric ON metric.id = metric_id
WHERE bucket >= %(since)s::timestamptz AND bucket < %(until)s::timestamptz
  AND (%(divisions)s::int[] IS NULL OR terminal.division = ANY (%(divisions)s::int[]))
  AND (%(domain)s::text IS NULL OR terminal.domain = %(domain)s::text)
  AND (%(terminals)s::int[] IS NULL OR terminal_id = ANY (%(terminals)s::int[]))

-- name: indicators
-- A day counts as its midnight in UTC, like the period's ends: --from 2026-11-01 means the day of that name.
SELECT day, name, division, numerator, denominator, value, plan_version
FROM indicator
WHERE day >= %(since)s::timestamptz AT TIME ZONE 'UTC' AND day < %(until)s::timestamptz AT TIME ZONE 'UTC'
  AND (%(divisions)s::int[] IS NULL OR division = ANY (%(divisions)s::int[]))
