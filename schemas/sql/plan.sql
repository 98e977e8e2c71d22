-- The plan, version by version, and what others declare.

-- name: lock
-- One import at a time: versions are max + 1.
SELECT pg_advisory_xact_lock(hashtext('ganzhi.plan'))

-- name: newest
-- No row where there is no plan.
SELECT max(version) FROM plan HAVING max(version) IS NOT NULL

-- name: add
INSERT INTO plan (version, division, domain, target, due_on, source)
SELECT %s, division, domain, target, due_on, source
FROM unnest(%s::int[], %s::text[], %s::bigint[], %s::date[], %s::text[]) AS new (division, domain, target, due_on, source)

-- name: rows
SELECT division, domain, target, due_on, source FROM plan WHERE version = %s

-- name: imported
SELECT imported_at, imported_by FROM plan WHERE version = %s LIMIT 1

-- name: declare
-- True: new, false: another value than before; no row: as it was.
INSERT INTO declared (indicator, division, value, as_of, source) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (indicator, division, as_of, source) DO UPDATE SET value = excluded.value
    WHERE declared.value <> excluded.value
RETURNING xmax = 0

-- name: declared_before
SELECT value FROM declared
WHERE (indicator, division, as_of, source) = (%s, %s, %s, %s)

-- name: declare_first
INSERT INTO declared (indicator, division, value, as_of, source) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING

-- name: declared
SELECT indicator, division, value, as_of, source FROM declared ORDER BY indicator, division, as_of, source
