-- What the observer's arrays are made of, and what it writes back.

-- name: lock
-- One observer a database; the lock goes with the connection.
SELECT pg_try_advisory_lock(hashtext('ganzhi.observer'))

-- name: unhurried
-- For this transaction: reading a large registry takes longer than a statement of the path may.
SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)

-- name: snapshot
-- Everything that follows in the transaction sees one moment.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- name: size
SELECT greatest((SELECT coalesce(max(id), 0) + 1 FROM terminal), (SELECT coalesce(max(first_id), 0) + 65536 FROM presence))

-- name: axes
SELECT (SELECT coalesce(max(id), 0) + 1 FROM cell), (SELECT coalesce(max(id), 0) + 1 FROM gateway)

-- name: facts
-- Fixed widths, no NULL. Of terminals above an id, all or these. Cell: zones count in their city, a discovered
-- terminal in domain other, an unknown division in the province. Gateway: 0 none, -1 not numbered yet. Report
-- and profile: 0 none. Life: as presence.Life. Traits: 1 nbiot, 2 never heard, 4 smart, 8 not smart, 16 key
-- area, 32 no key area.
COPY (
    SELECT t.id, coalesce(c.id, nowhere.id), coalesce(g.id, CASE WHEN t.gateway IS NULL THEN 0 ELSE -1 END),
           ceil(least(coalesce(date_part('epoch', t.report_every), 0), 2147483647))::int,
           coalesce(array_position(%(profiles)s::text[], t.profile), 0)::smallint,
           CASE WHEN t.installed_on IS NULL THEN 32767
                ELSE greatest(least(t.installed_on, date '2020-01-01' + 32766), date '2020-01-01' - 32768)
                     - date '2020-01-01' END::smallint,
           CASE t.state WHEN 'retired' THEN 2 WHEN 'discovered' THEN 3 ELSE 1 END::smallint,
           (CASE WHEN t.network = 'nbiot' THEN 1 ELSE 0 END + CASE WHEN t.first_heard_at IS NULL THEN 2 ELSE 0 END
            + CASE t.smart WHEN true THEN 4 WHEN false THEN 8 ELSE 0 END
            + CASE t.key_area WHEN true THEN 16 WHEN false THEN 32 ELSE 0 END)::smallint
    FROM terminal AS t
    CROSS JOIN (SELECT id FROM cell WHERE division = 370000 AND domain = 'other') AS nowhere
    LEFT JOIN division AS d ON d.code = t.division
    LEFT JOIN cell AS c ON c.division = CASE WHEN d.level = 'zone' THEN d.parent ELSE t.division END
                       AND c.domain = CASE WHEN t.state = 'discovered' THEN 'other' ELSE t.domain END
    LEFT JOIN gateway AS g ON g.name = t.gateway
    WHERE t.scheme <> 'forgotten' AND t.id > %(above)s AND (%(ids)s::int[] IS NULL OR t.id = ANY(%(ids)s))
) TO STDOUT (FORMAT binary)

-- name: heard_ids
-- 8 bytes each, many in one value: asked at every look, and a row for each would cost its reader 450.
SELECT string_agg(int8send(id), '') FROM heard GROUP BY id >> 16

-- name: heard
-- As they came, so that what was heard first is written as first.
SELECT id, date_part('epoch', heard_at), terminals, offline, refused, gateways, quality FROM heard
WHERE id = ANY(%s) ORDER BY heard_at, id

-- name: pending_terminals
-- The newest first: who looks for one terminal can stop early.
SELECT date_part('epoch', heard_at), terminals FROM heard WHERE terminals IS NOT NULL ORDER BY heard_at DESC

-- name: pending_offline
SELECT date_part('epoch', heard_at), offline FROM heard WHERE offline IS NOT NULL ORDER BY heard_at DESC

-- name: changes
SELECT id, terminals FROM registry_change WHERE id <> ALL(%s) ORDER BY id LIMIT %s

-- name: change_ids
SELECT id FROM registry_change

-- name: forget_changes
DELETE FROM registry_change WHERE id = ANY(%s)

-- name: offline
COPY (
    SELECT id, floor(date_part('epoch', said_offline_at))::bigint FROM terminal WHERE said_offline_at IS NOT NULL
) TO STDOUT (FORMAT binary)

-- name: blocks
SELECT first_id, heard, invalid FROM presence ORDER BY first_id

-- name: put_block
INSERT INTO presence (first_id, heard, invalid) VALUES (%b, %b, %b)
ON CONFLICT (first_id) DO UPDATE SET heard = excluded.heard, invalid = excluded.invalid

-- name: forget_heard
DELETE FROM heard WHERE id = ANY(%s)

-- name: first_heard
UPDATE terminal SET first_heard_at = to_timestamp(new.at)
FROM unnest(%s::int[], %s::float8[]) AS new (id, at)
WHERE terminal.id = new.id AND terminal.first_heard_at IS NULL

-- name: said_offline
UPDATE terminal SET said_offline_at = to_timestamp(new.at)
FROM unnest(%s::int[], %s::float8[]) AS new (id, at)
WHERE terminal.id = new.id AND (terminal.said_offline_at >= to_timestamp(new.at)) IS NOT TRUE

-- name: add_quality
INSERT INTO quality AS q (hour, division, unflagged, received)
SELECT to_timestamp(hour), division, unflagged, received
FROM unnest(%s::bigint[], %s::int[], %s::bigint[], %s::bigint[]) AS new (hour, division, unflagged, received)
ON CONFLICT (hour, division) DO UPDATE
    SET unflagged = q.unflagged + excluded.unflagged, received = q.received + excluded.received

-- name: seen
SELECT p.heard FROM (
    SELECT substring(heard FROM 1 + 4 * (%(id)s - first_id) FOR 4) AS heard FROM presence
    WHERE first_id = %(id)s / 65536 * 65536
) AS p JOIN terminal ON terminal.id = %(id)s AND terminal.first_heard_at IS NOT NULL

-- name: said
SELECT date_part('epoch', said_offline_at) FROM terminal WHERE id = %s

-- name: unnamed
-- Gateways that terminals name and the table lacks.
SELECT DISTINCT gateway FROM terminal AS t
WHERE gateway IS NOT NULL AND (%(ids)s::int[] IS NULL OR id = ANY(%(ids)s))
  AND NOT EXISTS (SELECT FROM gateway AS g WHERE g.name = t.gateway)

-- name: add_gateways
-- Run only where one is missing: workers read the registry anew after it.
INSERT INTO gateway (name, division, state, registered_at)
SELECT name, division, 'planned', NULL FROM unnest(%s::text[], %s::int[]) AS new (name, division)
ON CONFLICT (name) DO NOTHING

-- name: number_gateways
UPDATE gateway SET id = new.id
FROM (SELECT name, (SELECT coalesce(max(id), 0) FROM gateway) + row_number() OVER (ORDER BY name) AS id
      FROM gateway WHERE id IS NULL) AS new
WHERE gateway.name = new.name

-- name: unknown_gateways
SELECT name FROM unnest(%s::text[]) AS heard (name) WHERE NOT EXISTS (SELECT FROM gateway AS g WHERE g.name = heard.name)

-- name: without_place
SELECT name FROM gateway WHERE name = ANY(%s) AND division IS NULL AND registered_at IS NULL

-- name: place_gateways
-- Where nobody registered a gateway, its topic says where it stands.
UPDATE gateway AS g SET division = new.division
FROM unnest(%s::text[], %s::int[]) AS new (name, division)
WHERE g.name = new.name AND g.division IS NULL AND g.registered_at IS NULL

-- name: see_gateways
UPDATE gateway AS g
SET first_seen = least(g.first_seen, to_timestamp(new.first)),
    last_seen = greatest(g.last_seen, to_timestamp(new.last)),
    said_offline_at = CASE WHEN g.said_offline_at + interval '1 minute' >= to_timestamp(new.last) THEN g.said_offline_at END
FROM unnest(%s::text[], %s::float8[], %s::float8[]) AS new (name, first, last)
WHERE g.name = new.name
  AND ((g.last_seen >= to_timestamp(new.last)) IS NOT TRUE OR (g.first_seen <= to_timestamp(new.first)) IS NOT TRUE)

-- name: totals
-- Counted by the database alone: what the arrays must come to. Grouped before cells are looked up, 300 million
-- rows into some thousands. Columns as devices.recount.COUNTED.
WITH counted AS (
    SELECT division, domain, state, (installed_on <= %(today)s) IS TRUE AS due, first_heard_at IS NOT NULL AS heard,
           count(*) AS n
    FROM terminal WHERE scheme <> 'forgotten'
    GROUP BY 1, 2, 3, 4, 5
)
SELECT coalesce(c.id, nowhere.id),
       coalesce(sum(n) FILTER (WHERE t.state NOT IN ('retired', 'discovered') AND NOT due), 0)::bigint,
       coalesce(sum(n) FILTER (WHERE t.state NOT IN ('retired', 'discovered') AND due AND NOT heard), 0)::bigint,
       coalesce(sum(n) FILTER (WHERE t.state NOT IN ('retired', 'discovered') AND due AND heard), 0)::bigint,
       coalesce(sum(n) FILTER (WHERE t.state = 'retired'), 0)::bigint,
       coalesce(sum(n) FILTER (WHERE t.state = 'discovered'), 0)::bigint
FROM counted AS t
CROSS JOIN (SELECT id FROM cell WHERE division = 370000 AND domain = 'other') AS nowhere
LEFT JOIN division AS d ON d.code = t.division
LEFT JOIN cell AS c ON c.division = CASE WHEN d.level = 'zone' THEN d.parent ELSE t.division END
                   AND c.domain = CASE WHEN t.state = 'discovered' THEN 'other' ELSE t.domain END
GROUP BY 1

-- name: last_coverage
-- Columns as devices.recount.COUNTED.
SELECT at, division, domain, planned, never_heard, verified, retired, discovered
FROM coverage WHERE at = (SELECT max(at) FROM coverage)
