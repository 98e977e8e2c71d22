-- What the dashboard of this name asks the database. {name} stands for another block of this file.

-- name: declared
SELECT declared.indicator, declared.value AS declared, declared.as_of, declared.source, measured.value AS measured,
       measured.day
FROM declared
LEFT JOIN LATERAL (
    SELECT value, day FROM indicator
    WHERE name = declared.indicator AND indicator.division = declared.division AND value IS NOT NULL
    ORDER BY day DESC LIMIT 1
) AS measured ON true
WHERE declared.division = 370000
ORDER BY declared.indicator, declared.as_of DESC

-- name: indicators
SELECT name, value, numerator, denominator, plan_version, day FROM indicator
WHERE division = 370000 AND day = (SELECT max(day) FROM indicator WHERE division = 370000) AND value IS NOT NULL
ORDER BY name
