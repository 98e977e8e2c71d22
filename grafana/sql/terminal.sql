-- What the dashboard of this name asks the database. {name} stands for another block of this file.

-- name: asked
-- As readings find it: by an alias that holds now, else by its own code; `it` is its row of the registry.
WITH said AS (
    SELECT CASE WHEN code ~ '^[0-9]{15}$' THEN 'imei:' || code WHEN code ~ '^[0-9]{20}$' THEN 'gb28181:' || code
                ELSE regexp_replace(code, '^urn:imei:', 'imei:') END AS code
    FROM (SELECT trim(${code:sqlstring}) AS code) AS typed
), one AS (
    SELECT id FROM (
        SELECT terminal_id AS id FROM alias, said
        WHERE scheme = split_part(said.code, ':', 1) AND value = substr(said.code, strpos(said.code, ':') + 1)
          AND valid_from <= now() AND (valid_to IS NULL OR now() < valid_to)
        UNION ALL
        SELECT terminal.id FROM terminal JOIN said USING (code)
    ) AS found LIMIT 1
), it AS (SELECT terminal.* FROM terminal WHERE id = (SELECT id FROM one))

-- name: facts
{asked}, rhythm AS (
    SELECT coalesce(extract(epoch FROM report_every), CASE profile {rhythms} ELSE 86400 END)::float8 AS r FROM it
), heard AS (
    SELECT max(observed_at) AS at FROM it, terminal_last(it.code, 20) WHERE metric <> 'online' OR value <> 0
), age AS (
    SELECT CASE WHEN said_offline_at > heard.at THEN said_offline_at ELSE heard.at END AS since,
           coalesce(said_offline_at > heard.at, false) AS offline FROM it, heard
), silent AS (
    SELECT extract(epoch FROM now() - since) AS seconds, offline FROM age
), state AS (
    SELECT CASE WHEN state IN ('retired', 'discovered') THEN state
                WHEN installed_on IS NULL OR installed_on > (now() AT TIME ZONE 'Asia/Shanghai')::date THEN 'planned'
                WHEN first_heard_at IS NULL THEN 'never_heard'
                WHEN seconds <= 1.5 * r + 600 AND NOT offline THEN 'live'
                WHEN seconds <= 3 * r + 1800 THEN 'overdue'
                ELSE 'lost' END AS state
    FROM it, rhythm, silent
)
SELECT fact.what, fact.said
FROM it, rhythm, heard, state, LATERAL (VALUES
    ('编码 / Code', it.code),
    ('状态 / State', state.state),
    ('最近读数 / Last reading', heard.at::text),
    ('上报周期 / Reports every', rhythm.r || ' s'),
    ('首次听到 / First heard', it.first_heard_at::text),
    ('自称离线 / Said offline', it.said_offline_at::text),
    ('区划 / Division', (SELECT code || ' ' || name_zh || ' ' || name_en FROM division WHERE code = it.division)),
    ('领域 / Domain', it.domain),
    ('类型 / Profile', it.profile),
    ('网络 / Network', it.network),
    ('点位 / Site', it.site),
    ('项目 / Project', it.project),
    ('权属单位 / Owner', it.owner),
    ('安装日期 / Installed on', it.installed_on::text),
    ('停用日期 / Retired on', it.retired_on::text),
    ('智能 / Smart', it.smart::text),
    ('重点区域 / Key area', it.key_area::text),
    ('经纬度 / Position', it.lon || ', ' || it.lat)
) AS fact (what, said)
WHERE fact.said IS NOT NULL

-- name: gateway
{asked}
SELECT gateway.name, gateway.state, gateway.owner, gateway.contact, gateway.last_seen, gateway.kind, gateway.firmware,
       division.name_zh || ' ' || division.name_en AS place
FROM it JOIN gateway ON gateway.name = it.gateway LEFT JOIN division ON division.code = gateway.division

-- name: aliases
{asked}
SELECT alias.scheme || ':' || alias.value AS alias, valid_from, valid_to FROM it JOIN alias ON alias.terminal_id = it.id
ORDER BY valid_from DESC

-- name: last
{asked}
SELECT metric, unit, last_value, last_at, first_value, first_at FROM it, terminal_span(it.code) ORDER BY metric

-- name: readings
{asked}
SELECT observed_at AS time, metric || ' ' || unit AS metric, value
FROM it, terminal_readings(it.code, $__timeFrom()::timestamptz, $__timeTo()::timestamptz) ORDER BY 1

-- name: daily
{asked}
SELECT bucket AS time, sum(n) AS "读数 / readings" FROM reading_daily
WHERE terminal_id = (SELECT id FROM one) AND $__timeFilter(bucket)
GROUP BY bucket ORDER BY bucket

-- name: events
{asked}
SELECT observed_at, name, body::text AS body FROM event
WHERE terminal_id = (SELECT id FROM one) AND $__timeFilter(observed_at)
ORDER BY observed_at DESC LIMIT 200

-- name: rejections
{asked}
SELECT rejection.id, received_at, reason, detail -> 0 ->> 'detail' AS detail, rejected, total, topic
FROM it JOIN rejection ON rejection.gateway = it.gateway
WHERE resolved_at IS NULL AND $__timeFilter(received_at)
  AND position(convert_to(substr(it.code, strpos(it.code, ':') + 1), 'UTF8') IN payload) > 0
ORDER BY received_at DESC LIMIT 100
