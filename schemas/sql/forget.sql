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
UPDATE audit SET subject = %(forgotten)s, detail = detail - '{alias,retired}'::text[]
WHERE subject = ANY(%(names)s)

-- name: readings
DELETE FROM reading WHERE terminal_id = ANY(%s) AND observed_at >= %s AND observed_at < %s

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
-- Rejections that hold one of these texts, perhaps as a part of a longer one: who asks looks closer.
SELECT id, payload, detail::text FROM rejection
WHERE EXISTS (
    SELECT FROM unnest(%s::text[]) AS named (text)
    WHERE position(convert_to(named.text, 'UTF8') IN payload) > 0 OR position(named.text IN detail::text) > 0)

-- name: empty_rejections
-- That there was a refusal stays, with its counts; nothing is left to replay.
UPDATE rejection
SET payload = '', resolved_at = coalesce(resolved_at, now()),
    detail = jsonb_build_array(jsonb_build_object('index', NULL, 'reason', reason, 'detail', 'forgotten'))
WHERE id = ANY(%s)
