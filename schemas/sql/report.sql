-- What `ganzhi report` and the observer's page read. Tables are named without their schema: a city's reader means
-- its own views. `divisions` NULL stands for all.

-- name: snapshot
-- Everything that follows in the transaction sees one moment.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY

-- name: day
-- The last day of a period that has figures.
SELECT max(day) FROM indicator
WHERE day BETWEEN %(since)s AND %(until)s AND name = 'terminals_verified' AND division = %(division)s

-- name: indicators
SELECT name, division, numerator, denominator, value FROM indicator
WHERE day = %(day)s AND value IS NOT NULL AND (%(divisions)s::int[] IS NULL OR division = ANY (%(divisions)s::int[]))

-- name: plan_version
SELECT plan_version FROM indicator WHERE day = %(day)s AND name = 'terminals_verified' AND division = %(division)s

-- name: trend
SELECT name, day, value FROM indicator
WHERE name = ANY (%(names)s) AND division = %(division)s AND day BETWEEN %(since)s AND %(until)s AND value IS NOT NULL
ORDER BY day

-- name: quality
SELECT sum(numerator), sum(denominator) FROM indicator
WHERE name = 'quality_ratio' AND division = %(division)s AND day BETWEEN %(since)s AND %(until)s

-- name: cells
-- The last count of a day; states as devices.states.STATES.
SELECT extract(epoch FROM at)::float8, division, domain,
       ARRAY[planned, never_heard, live, overdue, lost, retired, discovered], active
FROM coverage
WHERE at = (SELECT max(at) FROM coverage WHERE at >= to_timestamp(%(begins)s) AND at < to_timestamp(%(ends)s))
  AND (%(divisions)s::int[] IS NULL OR division = ANY (%(divisions)s::int[]))

-- name: gap_kinds
-- Opened and closed in the period and in the one before, and open at the end.
SELECT kind,
       count(*) FILTER (WHERE opened_at >= to_timestamp(%(begins)s) AND opened_at < to_timestamp(%(ends)s)),
       count(*) FILTER (WHERE closed_at >= to_timestamp(%(begins)s) AND closed_at < to_timestamp(%(ends)s)),
       count(*) FILTER (WHERE opened_at >= to_timestamp(%(began)s) AND opened_at < to_timestamp(%(begins)s)),
       count(*) FILTER (WHERE closed_at >= to_timestamp(%(began)s) AND closed_at < to_timestamp(%(begins)s)),
       count(*) FILTER (WHERE opened_at < to_timestamp(%(ends)s)
                        AND (closed_at IS NULL OR closed_at >= to_timestamp(%(ends)s)))
FROM coverage_gap
WHERE %(divisions)s::int[] IS NULL OR division = ANY (%(divisions)s::int[])
GROUP BY kind

-- name: open_gaps
-- Columns as devices.gap.Gap. Figures are those of the last count, also of a gap that closed since.
SELECT kind, division, domain, gateway, extract(epoch FROM opened_at)::float8, expected, live, evidence, id
FROM coverage_gap
WHERE opened_at < to_timestamp(%(ends)s) AND (closed_at IS NULL OR closed_at >= to_timestamp(%(ends)s))
  AND (%(divisions)s::int[] IS NULL OR division = ANY (%(divisions)s::int[]))
ORDER BY expected - live DESC, id LIMIT %(limit)s

-- name: may_read_declared
-- What others publish is of no city; its reader has no such table.
SELECT has_table_privilege('declared', 'SELECT')

-- name: declared
SELECT indicator, division, value, as_of, source FROM declared
WHERE as_of <= %(until)s AND (%(divisions)s::int[] IS NULL OR division = ANY (%(divisions)s::int[]))
ORDER BY indicator, division, as_of, source
