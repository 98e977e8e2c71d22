-- Gaps in coverage and planned maintenance: what the observer reads and writes, and the on-call's commands.

-- name: known
-- Open gaps, and those that closed after a moment: they open again when their cause is back.
SELECT kind, division, domain, gateway, extract(epoch FROM opened_at)::float8, expected, live, evidence, id,
       extract(epoch FROM closed_at)::float8, acknowledged_at IS NOT NULL
FROM coverage_gap WHERE closed_at IS NULL OR closed_at >= to_timestamp(%s) ORDER BY id

-- name: planned
SELECT id, division, domain, gateway, extract(epoch FROM since)::float8, extract(epoch FROM until)::float8
FROM planned_maintenance WHERE until > to_timestamp(%s) ORDER BY id

-- name: last_look
-- When the observer last looked, and when it last found the service deaf, until when; Unix seconds.
SELECT extract(epoch FROM (SELECT max(at) FROM coverage))::float8, a.action IS NOT NULL,
       (a.detail ->> 'since')::float8, (a.detail ->> 'until')::float8
FROM (SELECT) AS always
LEFT JOIN LATERAL (SELECT action, detail FROM audit WHERE action IN ('observer deaf', 'observer hears')
                   ORDER BY at DESC LIMIT 1) AS a ON true

-- name: silence
-- The longest time since a look in which no batch was committed, if longer than so many seconds.
SELECT extract(epoch FROM before)::float8, extract(epoch FROM heard_at)::float8
FROM (SELECT heard_at,
             greatest(lag(heard_at) OVER (ORDER BY heard_at), to_timestamp(%(since)s)) AS before FROM heard) AS h
WHERE heard_at > before + make_interval(secs => %(seconds)s)
ORDER BY heard_at - before DESC LIMIT 1

-- name: open
-- What is open already stays as it is, should two observers run.
INSERT INTO coverage_gap (kind, division, domain, gateway, opened_at, expected, live, evidence)
SELECT kind, division, domain, gateway, to_timestamp(opened), expected, live, evidence
FROM unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::float8[], %s::bigint[], %s::bigint[], %s::jsonb[])
     AS new (kind, division, domain, gateway, opened, expected, live, evidence)
ON CONFLICT (kind, division, coalesce(domain, ''), coalesce(gateway, '')) WHERE closed_at IS NULL DO NOTHING

-- name: change
-- When it opened and who acknowledged it stays.
UPDATE coverage_gap AS gap
SET kind = new.kind, division = new.division, expected = new.expected, live = new.live, evidence = new.evidence,
    closed_at = to_timestamp(new.closed)
FROM unnest(%s::bigint[], %s::text[], %s::int[], %s::bigint[], %s::bigint[], %s::jsonb[], %s::float8[])
     AS new (id, kind, division, expected, live, evidence, closed)
WHERE gap.id = new.id

-- name: list
-- The largest first. A gap of a gateway names whom to call. `rest`: a city's without the counties that have
-- targets of their own, which the newest plan says.
SELECT gap.id, gap.opened_at, gap.closed_at, gap.kind, gap.division, d.name_zh, d.name_en, gap.domain, gap.gateway,
       gap.expected, gap.live, g.owner, g.contact, gap.acknowledged_at, gap.acknowledged_by, gap.evidence,
       gap.kind = 'under_target' AND EXISTS (
           SELECT FROM plan JOIN division AS county ON county.code = plan.division
           WHERE plan.version = (SELECT max(version) FROM plan) AND county.parent = gap.division
             AND plan.domain = gap.domain AND plan.due_on <= (now() AT TIME ZONE 'Asia/Shanghai')::date
       ) AS rest
FROM coverage_gap AS gap
LEFT JOIN division AS d ON d.code = gap.division
LEFT JOIN gateway AS g ON g.name = gap.gateway
WHERE CASE WHEN %(id)s::bigint IS NULL THEN %(all)s OR gap.closed_at IS NULL ELSE gap.id = %(id)s END
  AND (%(division)s::int IS NULL OR %(division)s IN (gap.division, d.parent))
ORDER BY gap.closed_at DESC NULLS FIRST, gap.expected - gap.live DESC, gap.id
LIMIT %(limit)s

-- name: acknowledge
UPDATE coverage_gap SET acknowledged_at = now(), acknowledged_by = coalesce(%(by)s, session_user)
WHERE id = %(id)s AND acknowledged_at IS NULL
RETURNING kind, division, domain, gateway, acknowledged_by

-- name: audit
INSERT INTO audit (action, subject, detail) VALUES (%s, %s, %s)

-- name: gateway_exists
SELECT EXISTS (SELECT FROM gateway WHERE name = %s)

-- name: plan_maintenance
INSERT INTO planned_maintenance (division, domain, gateway, since, until, reason)
VALUES (%(division)s, %(domain)s, %(gateway)s, %(since)s, %(until)s, %(reason)s)
RETURNING id

-- name: end_maintenance
-- What was planned, as it was, and whether it had begun. No row: it is over, or there is none.
WITH planned AS (
    SELECT * FROM planned_maintenance WHERE id = %(id)s AND until > now() FOR UPDATE
), ended AS (
    UPDATE planned_maintenance AS m SET until = now() FROM planned WHERE m.id = planned.id AND m.since < now()
), removed AS (
    DELETE FROM planned_maintenance AS m USING planned WHERE m.id = planned.id AND m.since >= now()
)
SELECT since < now(), to_jsonb(planned) FROM planned

-- name: maintenance
SELECT m.id, m.since, m.until, m.since <= now() AND now() < m.until, m.division, d.name_zh, d.name_en, m.domain,
       m.gateway, m.reason, m.added_by
FROM planned_maintenance AS m LEFT JOIN division AS d ON d.code = m.division
WHERE %(all)s OR m.until > now()
ORDER BY m.since, m.id
