-- A terminal and what it sent, gone. As the owner of the tables.

-- name: session
-- Batches are decompressed by whole segments, far more rows than go.
SELECT set_config('statement_timeout', '0', false), set_config('client_min_messages', 'warning', false),
       set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', false)

-- name: terminals
-- It, and those that were discovered under a name of which it was the first owner.
SELECT id, code FROM terminal WHERE id = %(id)s
UNION
SELECT terminal.id, terminal.code FROM alias
JOIN terminal ON terminal.code = alias.scheme || ':' || alias.value AND terminal.state = 'retired'
WHERE alias.terminal_id = %(id)s AND NOT EXISTS (
    SELECT FROM alias AS earlier
    WHERE earlier.scheme = alias.scheme AND earlier.value = alias.value AND earlier.valid_from < alias.valid_from)

-- name: names
SELECT scheme || ':' || value FROM alias WHERE terminal_id = ANY(%s)

-- name: aliases
DELETE FROM alias WHERE terminal_id = ANY(%s)

-- name: empty
-- The row stays, so that its id is never another terminal's.
UPDATE terminal
SET code = 'forgotten:' || id, scheme = 'forgotten', division = 370000, domain = 'other', profile = NULL, network = NULL,
    gateway = NULL, site = NULL, project = NULL, owner = NULL, state = 'retired', report_every = NULL,
    installed_on = NULL, smart = NULL, key_area = NULL, key_area_inferred = false, lon = NULL, lat = NULL,
    registered_at = now(), first_heard_at = NULL, said_offline_at = NULL, retired_on = NULL
WHERE id = ANY(%s)

-- name: changed
-- For the observer, also where no fact that it looks at was there.
INSERT INTO registry_change (terminals) VALUES (%s)

-- name: audited
-- What was done to it before stays, without its names.
UPDATE audit
SET subject = CASE WHEN subject = ANY(%(names)s) THEN %(forgotten)s ELSE subject END,
    detail = CASE WHEN detail ->> 'gateway' = ANY(%(names)s) THEN jsonb_set(detail, '{gateway}', to_jsonb(%(forgotten)s::text))
                  ELSE detail END - '{alias,retired,name,owner,contact}'::text[]
WHERE subject = ANY(%(names)s) OR detail ->> 'gateway' = ANY(%(names)s)

-- name: own_gateways
-- A terminal that publishes for itself is its own gateway: no other terminal names it.
SELECT name FROM gateway
WHERE name = ANY(%(names)s)
  AND NOT EXISTS (SELECT FROM terminal WHERE terminal.gateway = gateway.name AND id <> ALL(%(ids)s))
  AND NOT EXISTS (SELECT FROM terminal_gateway AS others
                  WHERE others.gateway = gateway.name AND others.terminal_id <> ALL(%(ids)s))

-- name: empty_gateway
-- Its number stays, as a terminal's does: the observer's arrays go by it.
UPDATE gateway
SET name = %(forgotten)s, division = NULL, kind = NULL, owner = NULL, contact = NULL, utc_offset = NULL, state = NULL,
    first_seen = NULL, last_seen = NULL, registered_at = NULL, said_offline_at = NULL, firmware = NULL
WHERE name = %(name)s

-- name: unhear
-- The observer takes these rows away once it has read them; where there is none they wait.
UPDATE heard SET gateways = gateways - %(name)s::text WHERE gateways ? %(name)s

-- name: unnumber
DELETE FROM gateway_sequence WHERE gateway = %(name)s

-- name: rename_gaps
UPDATE coverage_gap SET gateway = %(forgotten)s WHERE gateway = %(name)s

-- name: rename_maintenance
UPDATE planned_maintenance SET gateway = %(forgotten)s WHERE gateway = %(name)s

-- name: gateways
DELETE FROM terminal_gateway WHERE terminal_id = ANY(%s)

-- name: requests
DELETE FROM sparkplug_request WHERE 'spb:' || edge = ANY(%s)

-- name: births
-- What it said of itself when it was born, and by which aliases.
DELETE FROM sparkplug_birth WHERE concat_ws('/', 'spb:' || edge, nullif(device, '')) = ANY(%s)

-- name: readings
-- One terminal at a time: for a list TimescaleDB unpacks the whole chunk, for one the batches that may hold it
-- (measured: 2.28.3 and 2.29.2, 2,400 batches and 1).
DELETE FROM reading WHERE terminal_id = %s AND observed_at >= %s AND observed_at < %s

-- name: events
DELETE FROM event WHERE terminal_id = ANY(%s)

-- name: daily
-- Where the rollup by terminal is kept; no row where it is a view.
SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)::regclass::text
FROM timescaledb_information.continuous_aggregates
WHERE view_schema = 'public' AND view_name = 'reading_daily'

-- name: rollup
DELETE FROM {} WHERE terminal_id = ANY(%s)

-- name: mentions
-- Rejections that hold one of these texts, perhaps as a part of a longer one, and those of Sparkplug's topics: who
-- asks looks closer.
SELECT id, topic, payload, detail::text FROM rejection
WHERE (%(sparkplug)s AND topic LIKE 'spBv1.0/%%') OR EXISTS (
    SELECT FROM unnest(%(texts)s::text[]) AS named (text)
    WHERE position(convert_to(named.text, 'UTF8') IN payload) > 0 OR position(named.text IN detail::text) > 0
          OR position(named.text IN topic) > 0)

-- name: empty_rejections
-- That there was a refusal stays, with its counts; nothing is left to replay.
UPDATE rejection
SET payload = '', resolved_at = coalesce(resolved_at, now()), topic = new.topic,
    gateway = CASE WHEN gateway = ANY(%(names)s) THEN 'forgotten' ELSE gateway END,
    detail = jsonb_build_array(jsonb_build_object('index', NULL, 'reason', reason, 'detail', 'forgotten'))
FROM unnest(%(ids)s::bigint[], %(topics)s::text[]) AS new (id, topic)
WHERE rejection.id = new.id
