-- What the dashboard of this name asks the database. {name} stands for another block of this file.

-- name: own
(SELECT code FROM division WHERE $city IN (code, parent))

-- name: newest
SELECT * FROM coverage
WHERE division IN {own} AND at = (SELECT max(at) FROM coverage WHERE at > now() - interval '1 day')

-- name: cells
-- What the plan leaves of the city's total beside its counties' own targets is the city's row; what counts against
-- it is live in the counties without one.
WITH newest AS ({newest}), due AS (
    SELECT DISTINCT ON (division, domain) division, domain, target FROM plan
    WHERE version = (SELECT max(version) FROM plan) AND division IN {own}
      AND due_on <= (now() AT TIME ZONE 'Asia/Shanghai')::date
    ORDER BY division, domain, due_on DESC
), target AS (
    SELECT division, domain, CASE WHEN division <> $city THEN target
                                  ELSE greatest(0, 2 * target - sum(target) OVER (PARTITION BY domain)) END AS target
    FROM due
), unit AS (
    SELECT coalesce(target.division, $city) AS division, domain, sum(live) AS live
    FROM newest LEFT JOIN target USING (division, domain) GROUP BY 1, 2
)
SELECT place.code, place.name_zh || ' ' || place.name_en AS place, domain, installed, verified, newest.live, overdue,
       lost, never_heard, newest.live::float8 / nullif(installed, 0) AS networking, target,
       least(unit.live, target)::float8 / nullif(target, 0) AS coverage
FROM newest FULL JOIN target USING (division, domain) LEFT JOIN unit USING (division, domain)
JOIN division AS place ON place.code = division
ORDER BY coverage, networking, place

-- name: counties
SELECT division.code::text AS county, division.name_zh || ' ' || division.name_en AS place,
       sum(live)::float8 / nullif(sum(installed), 0) AS networking, sum(installed) AS installed, sum(live) AS live
FROM ({newest}) AS newest JOIN division ON division.code = newest.division
GROUP BY 1, 2

-- name: trend
SELECT at AS time, sum(installed) AS "登记 / installed", sum(verified) AS "核实 / verified", sum(live) AS "在线 / live"
FROM coverage WHERE $__timeFilter(at) AND division IN {own}
GROUP BY at ORDER BY at

-- name: missing
SELECT at AS time, sum(overdue) AS "逾期 / overdue", sum(lost) AS "失联 / lost",
       sum(never_heard) AS "从未上线 / never heard", sum(discovered) AS "未登记 / discovered"
FROM coverage WHERE $__timeFilter(at) AND division IN {own}
GROUP BY at ORDER BY at

-- name: ratios
SELECT midnight AS time, name AS metric, value
FROM indicator, LATERAL CAST(day::timestamp AT TIME ZONE 'Asia/Shanghai' AS timestamptz) AS midnight
WHERE $__timeFilter(midnight) AND division = $city AND value IS NOT NULL
  AND name IN ('coverage_ratio', 'networking_daily_ratio', 'buildout_ratio', 'quality_ratio')
ORDER BY midnight

-- name: readings
SELECT bucket AS time, cell.domain AS metric, sum(n) AS value
FROM reading_hourly JOIN cell ON cell.id = cell_id
WHERE $__timeFilter(bucket) AND cell.division IN {own}
GROUP BY bucket, cell.domain ORDER BY bucket

-- name: gaps
SELECT gap.id, gap.opened_at, gap.kind, division.name_zh || ' ' || division.name_en AS place, gap.domain, gap.gateway,
       gap.expected - gap.live AS missing, gap.expected, gap.live, gateway.owner, gateway.contact, gap.acknowledged_by
FROM coverage_gap AS gap JOIN division ON division.code = gap.division
LEFT JOIN gateway ON gateway.name = gap.gateway
WHERE gap.closed_at IS NULL AND gap.division IN {own}
ORDER BY missing DESC LIMIT 200

-- name: gateways
SELECT gateway.name, gateway.state, division.name_zh || ' ' || division.name_en AS place, gateway.kind, gateway.owner,
       gateway.contact, gateway.last_seen, gateway.firmware, gateway.registered_at IS NOT NULL AS registered
FROM gateway LEFT JOIN division ON division.code = gateway.division
WHERE gateway.division IN {own}
ORDER BY array_position('{offline,silent,online,planned}', gateway.state), gateway.last_seen LIMIT 500

-- name: rejections
SELECT gateway, reason, count(*) AS messages, sum(rejected) AS readings, max(received_at) AS last,
       min(detail -> 0 ->> 'detail') AS example
FROM rejection
WHERE resolved_at IS NULL AND $__timeFilter(received_at) AND division IN {own}
GROUP BY gateway, reason ORDER BY readings DESC LIMIT 50

-- name: age
SELECT extract(epoch FROM now() - max(at))::float8 AS seconds FROM coverage
WHERE at > now() - interval '7 days' AND division IN {own}

-- name: outages
SELECT count(*) FROM coverage_gap
WHERE closed_at IS NULL AND kind IN ('gateway_offline', 'outage', 'dark') AND division IN {own}

-- name: down
SELECT count(*) FROM gateway WHERE state IN ('offline', 'silent') AND division IN {own}

-- name: networking
SELECT sum(live)::float8 / nullif(sum(installed), 0) AS networking FROM ({newest}) AS newest
