-- The registry as the ingest path needs it.

-- name: lock
-- One registration at a time: ids are max + 1, and two workers that meet one new code must agree.
SELECT pg_advisory_xact_lock(hashtext('ganzhi.registry'))

-- name: terminals
SELECT code, id, division, domain, state, gateway FROM terminal WHERE code = ANY(%s) AND scheme <> 'forgotten'

-- name: aliases
-- By scheme and value, as the index has them; a code without a scheme has no alias.
SELECT alias.scheme || ':' || alias.value, terminal.id, terminal.division, terminal.domain, terminal.state, terminal.gateway
FROM unnest(%s::text[]) AS wanted (code)
JOIN alias ON alias.scheme = split_part(wanted.code, ':', 1)
          AND alias.value = substr(wanted.code, strpos(wanted.code, ':') + 1)
JOIN terminal ON terminal.id = alias.terminal_id
WHERE alias.valid_from <= now() AND (alias.valid_to IS NULL OR now() < alias.valid_to)

-- name: register_terminals
-- Those still missing under the lock get the next ids, as many of each gateway as it has left of its hour: what it
-- brought within it is counted in the registry itself, so that workers and restarts make no difference.
WITH missing AS MATERIALIZED (
    SELECT code, scheme, division, coalesce(gateway, '') AS gateway,
           row_number() OVER (PARTITION BY coalesce(gateway, '') ORDER BY code) AS place
    FROM unnest(%(codes)s::text[], %(schemes)s::text[], %(divisions)s::int[], %(gateways)s::text[])
         AS new (code, scheme, division, gateway)
    WHERE NOT EXISTS (SELECT FROM terminal WHERE terminal.code = new.code)
      AND NOT EXISTS (SELECT FROM alias WHERE alias.scheme = split_part(new.code, ':', 1)
                      AND alias.value = substr(new.code, strpos(new.code, ':') + 1)
                      AND alias.valid_from <= now() AND (alias.valid_to IS NULL OR now() < alias.valid_to))
), recent AS MATERIALIZED (
    SELECT sender.gateway, lately.brought
    FROM (SELECT DISTINCT gateway FROM missing) AS sender CROSS JOIN LATERAL (
        SELECT count(*) AS brought FROM (
            SELECT FROM terminal
            WHERE state = 'discovered' AND coalesce(gateway, '') = sender.gateway
              AND registered_at > now() - interval '1 hour'
            LIMIT %(hourly)s
        ) AS counted
    ) AS lately
)
INSERT INTO terminal (id, code, scheme, division, domain, gateway, state)
SELECT (SELECT coalesce(max(id), 0) FROM terminal) + row_number() OVER (ORDER BY code),
       code, scheme, division, 'other', nullif(gateway, ''), 'discovered'
FROM missing JOIN recent USING (gateway)
WHERE place + brought <= %(hourly)s

-- name: put_gateways
-- The first gateway that a terminal was heard through is its own, where nobody says better.
UPDATE terminal SET gateway = new.gateway
FROM unnest(%s::int[], %s::text[]) AS new (id, gateway)
WHERE terminal.id = new.id AND terminal.gateway IS NULL

-- name: put_aliases
-- Answers those that can't be, and why.
SELECT new.alias, put.reason
FROM unnest(%s::text[], %s::text[]) AS new (alias, code),
     put_alias(new.code, split_part(new.alias, ':', 1), substr(new.alias, strpos(new.alias, ':') + 1), NULL, NULL) AS put
WHERE put.outcome = 'refused'

-- name: metrics
SELECT id, name, unit, hard_low, hard_high, soft_low, soft_high FROM metric ORDER BY id

-- name: register_metrics
INSERT INTO metric (id, name, unit)
SELECT (SELECT coalesce(max(id), 0) FROM metric) + row_number() OVER (ORDER BY new.name), new.name, new.unit
FROM unnest(%s::text[], %s::text[]) AS new (name, unit)
WHERE NOT EXISTS (SELECT FROM metric WHERE metric.name = new.name)

-- name: cells
SELECT id, division, domain FROM cell

-- name: gateways
-- Registered ones: who was only heard has a row too, whose division is its topic's word and no more.
SELECT name, division, extract(epoch FROM utc_offset)::float8 FROM gateway WHERE registered_at IS NOT NULL

-- name: upsert_division
INSERT INTO division (code, name_zh, name_en, level, parent) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (code) DO UPDATE
    SET name_zh = excluded.name_zh, name_en = excluded.name_en, level = excluded.level, parent = excluded.parent

-- name: add_cells
-- Ids never change: what a release adds comes behind what is there.
INSERT INTO cell (id, division, domain)
SELECT (SELECT coalesce(max(id), 0) FROM cell) + row_number() OVER (ORDER BY new.place), new.division, new.domain
FROM unnest(%s::int[], %s::text[]) WITH ORDINALITY AS new (division, domain, place)
WHERE NOT EXISTS (SELECT FROM cell WHERE cell.division = new.division AND cell.domain = new.domain)

-- name: upsert_metric
-- The catalogue's limits follow the release; ids never change.
INSERT INTO metric (id, name, unit, hard_low, hard_high, soft_low, soft_high, catalogued)
SELECT (SELECT coalesce(max(id), 0) + 1 FROM metric), %s, %s, %s, %s, %s, %s, true
ON CONFLICT (name) DO UPDATE
    SET hard_low = excluded.hard_low, hard_high = excluded.hard_high,
        soft_low = excluded.soft_low, soft_high = excluded.soft_high, catalogued = true

-- name: version
-- What raised it, and when an alias last began or ended by the clock alone.
SELECT version,
       (SELECT max(valid_from) FROM alias WHERE announced AND valid_from <= now()),
       (SELECT max(valid_to) FROM alias WHERE valid_to <= now())
FROM registry_version

-- name: identifier_nodes
-- Distinct prefixes of registered handles, each found by one step in the index from the one before.
WITH RECURSIVE prefix (text) AS (
    SELECT min(split_part(substr(code, 8), '/', 1) COLLATE "C") FROM terminal
    WHERE scheme = 'handle' AND state IN ('planned', 'installed')
    UNION ALL
    SELECT (SELECT min(split_part(substr(code, 8), '/', 1) COLLATE "C") FROM terminal
            WHERE scheme = 'handle' AND state IN ('planned', 'installed')
              AND split_part(substr(code, 8), '/', 1) COLLATE "C" > prefix.text)
    FROM prefix WHERE prefix.text IS NOT NULL
)
SELECT count(DISTINCT split_part(text, '.', 2)),
       count(DISTINCT (split_part(text, '.', 2), split_part(text, '.', 3)))
           FILTER (WHERE split_part(text, '.', 3) <> '')
FROM prefix WHERE split_part(text, '.', 4) = ''
