-- What `ganzhi status` asks the database. Reads only.

-- name: state
SELECT (SELECT max(committed_at) FROM ledger_client),
       (SELECT heard_at FROM heard ORDER BY id DESC LIMIT 1),
       pg_total_relation_size('ledger') + pg_total_relation_size('ledger_timeless'),
       pg_database_size(current_database())

-- name: rejections
-- Open ones of the last hour, by reason.
SELECT reason, count(*), max(received_at) FROM rejection
WHERE resolved_at IS NULL AND received_at > now() - interval '1 hour'
GROUP BY reason ORDER BY count(*) DESC
