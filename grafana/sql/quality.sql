-- What the dashboard of this name asks the database. {name} stands for another block of this file.

-- name: by_gateway
SELECT gateway, division.name_zh || ' ' || division.name_en AS place, reason, count(*) AS messages,
       sum(rejected) AS readings, min(received_at) AS since, max(received_at) AS last,
       min(detail -> 0 ->> 'detail') AS example
FROM rejection LEFT JOIN division ON division.code = rejection.division
WHERE resolved_at IS NULL AND $__timeFilter(received_at)
GROUP BY gateway, place, reason ORDER BY readings DESC LIMIT 100

-- name: by_hour
SELECT hour AS time, division.name_zh || ' ' || division.name_en AS metric, unflagged::float8 / nullif(received, 0) AS value
FROM quality JOIN division ON division.code = quality.division
WHERE $__timeFilter(hour) ORDER BY hour
