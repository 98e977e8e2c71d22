-- The quarantine: what was refused, and what a replay makes of it.

-- name: list
-- Of a reason are those of which something was refused for it, whatever came first.
SELECT id, received_at, division, gateway, reason, rejected, total, resolved_at, detail -> 0 ->> 'detail'
FROM rejection
WHERE (%(reason)s::text IS NULL OR reason = %(reason)s
       OR detail @> jsonb_build_array(jsonb_build_object('reason', %(reason)s::text)))
  AND (%(division)s::int IS NULL OR division = %(division)s)
  AND (%(all)s OR resolved_at IS NULL)
ORDER BY id DESC
LIMIT %(limit)s

-- name: show
SELECT id, received_at, topic, division, gateway, reason, rejected, total, detail, content_type, payload, resolved_at
FROM rejection WHERE id = %s

-- name: open
-- The next open rejections after an id, locked, so that two replays don't take the same.
SELECT id, extract(epoch FROM received_at)::float8, topic, content_type, payload, detail
FROM rejection
WHERE id > %(after)s AND resolved_at IS NULL AND reason <> 'too_large'
  AND (%(reason)s::text IS NULL OR reason = %(reason)s
       OR detail @> jsonb_build_array(jsonb_build_object('reason', %(reason)s::text)))
  AND (%(division)s::int IS NULL OR division = %(division)s)
ORDER BY id LIMIT %(limit)s
FOR UPDATE SKIP LOCKED

-- name: resolve
UPDATE rejection SET resolved_at = now() WHERE id = ANY(%s)

-- name: keep
-- What a replay still refuses stays open, with the reasons of now.
UPDATE rejection SET reason = %s, rejected = %s, detail = %s WHERE id = %s
