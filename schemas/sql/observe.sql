-- What the observer's process asks and writes beside its arrays, as ganzhi_observer.

-- name: say_status
-- A retained word is old: it moves no time forward, and a gateway that was heard since is not offline by it.
UPDATE gateway AS g
SET said_offline_at = CASE WHEN new.online THEN NULL
                           WHEN new.retained AND g.last_seen IS NOT NULL THEN g.said_offline_at
                           ELSE coalesce(g.said_offline_at, now()) END,
    firmware = coalesce(new.firmware, g.firmware),
    first_seen = coalesce(g.first_seen, now()),
    last_seen = CASE WHEN new.online AND NOT new.retained THEN now() ELSE g.last_seen END
FROM unnest(%s::text[], %s::bool[], %s::bool[], %s::text[]) AS new (name, online, retained, firmware)
WHERE g.name = new.name

-- name: cells
SELECT id, division, domain FROM cell

-- name: gateways
SELECT id, name, division, extract(epoch FROM last_seen)::float8, extract(epoch FROM said_offline_at)::float8,
       registered_at IS NOT NULL, state
FROM gateway WHERE id IS NOT NULL ORDER BY id

-- name: keep_states
UPDATE gateway AS g SET state = new.state
FROM unnest(%s::int[], %s::text[]) AS new (id, state)
WHERE g.id = new.id AND g.state IS DISTINCT FROM new.state

-- name: plan
-- The newest version.
SELECT division, domain, target, due_on, source FROM plan WHERE version = (SELECT max(version) FROM plan)

-- name: plan_version
SELECT max(version) FROM plan

-- name: baseline
-- Where a declared indicator began.
SELECT DISTINCT ON (indicator, division) indicator, division, value FROM declared
ORDER BY indicator, division, as_of

-- name: verified_history
SELECT day, value FROM indicator
WHERE name = 'terminals_verified' AND division = 370000 AND day > %s::date - 90 AND day <= %s::date ORDER BY day

-- name: keep_coverage
INSERT INTO coverage (at, division, domain, planned, never_heard, live, overdue, lost, retired, discovered, active,
                      installed, verified)
SELECT to_timestamp(%s), division, domain, planned, never_heard, live, overdue, lost, retired, discovered, active,
       never_heard + live + overdue + lost, live + overdue + lost
FROM unnest(%s::int[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
            %s::bigint[], %s::bigint[], %s::bigint[])
     AS new (division, domain, planned, never_heard, live, overdue, lost, retired, discovered, active)
ON CONFLICT DO NOTHING

-- name: thin_coverage
-- Of a day (UTC+8) that is older than 90 days the last rows stay.
DELETE FROM coverage AS c
WHERE at < now() - interval '90 days'
  AND EXISTS (SELECT FROM coverage AS later
              WHERE later.division = c.division AND later.domain = c.domain AND later.at > c.at
                AND (later.at + interval '8 hours')::date = (c.at + interval '8 hours')::date)

-- name: thin_quality
DELETE FROM quality WHERE hour < now() - interval '90 days'

-- name: keep_indicators
-- The day's last look stands.
INSERT INTO indicator (day, name, division, numerator, denominator, value, plan_version)
SELECT %s, name, division, numerator, denominator, value, %s
FROM unnest(%s::text[], %s::int[], %s::float8[], %s::float8[], %s::float8[])
     AS new (name, division, numerator, denominator, value)
ON CONFLICT (day, name, division) DO UPDATE
    SET numerator = excluded.numerator, denominator = excluded.denominator, value = excluded.value,
        plan_version = excluded.plan_version

-- name: quality
-- Unflagged and received readings by city, of the last 24 full hours and the one that runs.
SELECT division, sum(unflagged)::bigint, sum(received)::bigint FROM quality
WHERE hour > now() - interval '25 hours' GROUP BY division

-- name: gaps_of_day
SELECT count(*) FILTER (WHERE (opened_at + interval '8 hours')::date = day),
       count(*) FILTER (WHERE (closed_at + interval '8 hours')::date = day)
FROM coverage_gap, CAST(%s AS date) AS day
WHERE opened_at >= day - interval '1 day' OR closed_at >= day - interval '1 day'

-- name: housekeeping
-- Rows as the server counts them: exact enough to see a ledger grow, and free.
SELECT (SELECT sum(n_live_tup)::bigint FROM pg_stat_user_tables WHERE relname IN ('ledger', 'ledger_timeless')),
       pg_database_size(current_database()),
       (SELECT coalesce(sum(rows), 0)::bigint FROM maintenance WHERE job = 'duplicates')

-- name: last_recount
SELECT day, value::bigint FROM indicator WHERE name = 'recount_difference' ORDER BY day DESC LIMIT 1

-- name: registered_gateways
SELECT name FROM gateway WHERE name = ANY(%s) AND registered_at IS NOT NULL
