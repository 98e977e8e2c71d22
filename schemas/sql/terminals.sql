-- The registry as its commands need it. An import stages the whole file, then merges it a block of lines at a
-- time: the lock that discovery waits for is held for a block.

-- name: session
SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false),
       set_config('work_mem', '64MB', false), set_config('client_min_messages', 'warning', false)

-- name: stage
CREATE TEMPORARY TABLE incoming (
    line int, code text, scheme text, division int, domain text, profile text, network text, gateway text,
    site text, project text, owner text, report_every float8, installed_on date, smart bool, key_area bool,
    lon float8, lat float8, profile_domain text, division_inferred bool, profile_inferred bool,
    key_area_inferred bool
)

-- name: copy
COPY incoming FROM STDIN

-- name: staged
CREATE INDEX ON incoming (line);
ANALYZE incoming

-- name: twice
-- The first line of a code stands. `other`: later ones that say something else, and the line they contradict.
CREATE TEMPORARY TABLE twice AS
SELECT line, code, min(line) OVER (PARTITION BY code) AS first,
       false AS other
FROM incoming AS i
WHERE code IN (SELECT code FROM incoming GROUP BY code HAVING count(*) > 1);
UPDATE twice SET other = true
FROM incoming AS a, incoming AS b
WHERE a.line = twice.line AND b.line = twice.first AND twice.line > twice.first
  AND (to_jsonb(a) - 'line') IS DISTINCT FROM (to_jsonb(b) - 'line');
DELETE FROM incoming USING twice WHERE incoming.line = twice.line AND twice.line > twice.first

-- name: aliased
-- Lines whose code is now another terminal's alias: two names of one terminal are not two terminals.
CREATE TEMPORARY TABLE aliased AS
SELECT incoming.line, incoming.code, terminal.code AS owner
FROM alias JOIN terminal ON terminal.id = alias.terminal_id
JOIN incoming ON incoming.code = alias.scheme || ':' || alias.value
WHERE alias.valid_from <= now() AND (alias.valid_to IS NULL OR now() < alias.valid_to);
DELETE FROM incoming USING aliased WHERE incoming.line = aliased.line

-- name: unstage
DROP TABLE IF EXISTS twice, aliased;
DROP TABLE IF EXISTS incoming CASCADE

-- name: contradictions
SELECT line, code || ' has other facts in line ' || first FROM twice WHERE other
UNION ALL
SELECT line, code || ' is an alias of ' || owner || ': end the alias first' FROM aliased
ORDER BY line

-- name: merged
-- What each line makes of its terminal; an empty cell leaves what is known.
CREATE TEMPORARY VIEW merged AS
SELECT n.line, t.id, n.code, n.scheme, place.division,
       coalesce(n.domain, CASE WHEN kind.profile IS DISTINCT FROM t.profile THEN n.profile_domain END,
                t.domain, 'other') AS domain,
       kind.profile,
       coalesce(n.network, t.network) AS network, coalesce(n.gateway, t.gateway) AS gateway,
       coalesce(n.site, t.site) AS site, coalesce(n.project, t.project) AS project,
       coalesce(n.owner, t.owner) AS owner,
       coalesce(n.report_every * interval '1 second', t.report_every) AS report_every,
       life.installed_on,
       coalesce(n.smart, t.smart) AS smart,
       CASE WHEN n.key_area_inferred THEN coalesce(t.key_area, n.key_area) ELSE coalesce(n.key_area, t.key_area) END
           AS key_area,
       CASE WHEN n.key_area_inferred THEN t.key_area IS NULL OR t.key_area_inferred
            ELSE n.key_area IS NULL AND coalesce(t.key_area_inferred, false) END AS key_area_inferred,
       coalesce(n.lon, t.lon) AS lon, coalesce(n.lat, t.lat) AS lat,
       -- What was taken out of service is back only when it was installed again.
       CASE WHEN life.gone THEN 'retired' WHEN life.installed_on <= current_date THEN 'installed' ELSE 'planned' END
           AS state,
       CASE WHEN life.gone THEN t.retired_on END AS retired_on,
       t AS before
FROM incoming AS n
LEFT JOIN terminal AS t ON t.code = n.code
LEFT JOIN gateway AS g ON g.name = coalesce(n.gateway, t.gateway)
CROSS JOIN LATERAL (
    SELECT CASE WHEN n.division_inferred THEN coalesce(nullif(t.division, 370000), g.division, n.division)
                ELSE coalesce(n.division, nullif(t.division, 370000), g.division, 370000) END
) AS place (division)
CROSS JOIN LATERAL (
    SELECT CASE WHEN n.profile_inferred THEN coalesce(t.profile, n.profile) ELSE coalesce(n.profile, t.profile) END
) AS kind (profile)
CROSS JOIN LATERAL (
    SELECT coalesce(n.installed_on, t.installed_on),
           coalesce(t.state = 'retired' AND (n.installed_on > t.retired_on) IS NOT TRUE, false)
) AS life (installed_on, gone)

-- name: block
-- By the index on codes: a block is small, the registry is not.
SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)

-- name: changed
-- What is new or different in a block of lines.
CREATE TEMPORARY TABLE changed ON COMMIT DROP AS
SELECT * FROM merged
WHERE line > %s AND line <= %s
  AND (id IS NULL OR
       (division, domain, profile, network, gateway, site, project, owner, report_every, installed_on, smart,
        key_area, key_area_inferred, lon, lat, state, retired_on)
       IS DISTINCT FROM
       ((before).division, (before).domain, (before).profile, (before).network, (before).gateway, (before).site,
        (before).project, (before).owner, (before).report_every, (before).installed_on, (before).smart,
        (before).key_area, (before).key_area_inferred, (before).lon, (before).lat, (before).state,
        (before).retired_on))

-- name: counts
SELECT count(*) FILTER (WHERE id IS NULL), count(id), count(*) FILTER (WHERE state = 'planned') FROM changed

-- name: update
UPDATE terminal AS t
SET division = m.division, domain = m.domain, profile = m.profile, network = m.network, gateway = m.gateway,
    site = m.site, project = m.project, owner = m.owner, report_every = m.report_every,
    installed_on = m.installed_on, smart = m.smart, key_area = m.key_area,
    key_area_inferred = m.key_area_inferred, lon = m.lon, lat = m.lat, state = m.state, retired_on = m.retired_on
FROM changed AS m WHERE t.id = m.id

-- name: create
-- Ids follow without a hole, however often it is tried.
INSERT INTO terminal (id, code, scheme, division, domain, profile, network, gateway, site, project, owner,
                      report_every, installed_on, smart, key_area, key_area_inferred, lon, lat, state)
SELECT (SELECT coalesce(max(id), 0) FROM terminal) + row_number() OVER (ORDER BY code), code, scheme, division,
       domain, profile, network, gateway, site, project, owner, report_every, installed_on, smart, key_area,
       key_area_inferred, lon, lat, state
FROM changed WHERE id IS NULL

-- name: audit
INSERT INTO audit (action, subject, detail) VALUES (%s, %s, %s)

-- name: find
-- By an alias that holds now, else by its own code: as readings find it.
SELECT terminal_id FROM alias
WHERE scheme = split_part(%(code)s, ':', 1) AND value = substr(%(code)s, strpos(%(code)s, ':') + 1)
  AND valid_from <= now() AND (valid_to IS NULL OR now() < valid_to)
UNION ALL
SELECT id FROM terminal WHERE code = %(code)s
LIMIT 1

-- name: put_alias
SELECT outcome, reason, retired FROM put_alias(%s, %s, %s, %s, %s)

-- name: show
SELECT terminal.*, city.name_zh AS division_name FROM terminal LEFT JOIN division AS city ON city.code = terminal.division
WHERE id = %s

-- name: aliases_of
-- With the id under which readings of that name were kept before, where it was discovered.
SELECT alias.scheme || ':' || value, valid_from, valid_to, terminal.id
FROM alias LEFT JOIN terminal ON terminal.code = alias.scheme || ':' || value
WHERE terminal_id = %s ORDER BY valid_from

-- name: retire
UPDATE terminal SET state = 'retired', retired_on = %(on)s WHERE id = %(id)s AND state <> 'retired'
RETURNING code, division, domain

-- name: export
-- The columns that an import takes; import of an export changes nothing. Inferred facts are left out, and what was
-- discovered under a name that is an alias now: an import refuses it.
COPY (
    SELECT code, division, domain, profile, network, gateway, site, project, owner,
           extract(epoch FROM report_every)::float8 || 's' AS report_every, installed_on, smart,
           CASE WHEN NOT key_area_inferred THEN key_area END AS key_area, lon, lat, state
    FROM terminal
    WHERE scheme <> 'forgotten'
      AND (%(division)s = 370000 OR division = %(division)s
           OR division IN (SELECT code FROM division WHERE parent = %(division)s))
      AND (%(domain)s::text IS NULL OR domain = %(domain)s)
      AND CASE WHEN %(state)s::text IS NULL THEN state <> 'discovered' ELSE state = %(state)s END
      AND NOT EXISTS (
          SELECT FROM alias WHERE alias.scheme || ':' || alias.value = terminal.code
          AND alias.valid_from <= now() AND (alias.valid_to IS NULL OR now() < alias.valid_to)
      )
    ORDER BY id
) TO STDOUT (FORMAT csv, HEADER)

-- name: put_gateway
-- Answers whether it is new; no row when nothing changes. An empty fact leaves what is known. One that was heard
-- before anybody registered it is registered now.
INSERT INTO gateway AS g (name, division, kind, owner, contact, utc_offset)
VALUES (%s, %s, %s, %s, %s, %s * interval '1 second')
ON CONFLICT (name) DO UPDATE
    SET division = coalesce(excluded.division, g.division), kind = coalesce(excluded.kind, g.kind),
        owner = coalesce(excluded.owner, g.owner), contact = coalesce(excluded.contact, g.contact),
        utc_offset = coalesce(excluded.utc_offset, g.utc_offset),
        registered_at = coalesce(g.registered_at, now())
    WHERE g.registered_at IS NULL OR (coalesce(excluded.division, g.division), coalesce(excluded.kind, g.kind),
           coalesce(excluded.owner, g.owner), coalesce(excluded.contact, g.contact),
           coalesce(excluded.utc_offset, g.utc_offset))
          IS DISTINCT FROM (g.division, g.kind, g.owner, g.contact, g.utc_offset)
RETURNING xmax = 0

-- name: gateways
-- Those that nobody registered last.
SELECT g.name, g.division, d.name_zh, g.kind, g.owner, g.contact, g.utc_offset, g.state, g.last_seen,
       coalesce(behind.n, 0), g.registered_at
FROM gateway AS g LEFT JOIN division AS d ON d.code = g.division
LEFT JOIN (
    SELECT gateway, count(*) AS n FROM terminal
    WHERE state <> 'retired' AND (%(name)s::text IS NULL OR gateway = %(name)s) GROUP BY gateway
) AS behind ON behind.gateway = g.name
WHERE %(name)s::text IS NULL OR g.name = %(name)s
ORDER BY g.registered_at IS NULL, g.name

-- name: terminals_of_gateway
SELECT state, count(*) FROM terminal WHERE gateway = %s GROUP BY state ORDER BY state
