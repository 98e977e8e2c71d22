-- What `ganzhi status` asks the database. Reads only.

-- name: identity
-- Which database this is: the same through every address and for every role, a standby's too. The cluster's number and
-- the database's as a hash: it is there to be compared, and `/readyz` shows it.
SELECT encode(substr(sha256(convert_to(system_identifier || ':' || oid, 'UTF8')), 1, 8), 'hex')
FROM pg_control_system(), pg_database WHERE datname = current_database()

-- name: state
-- The observer clears `heard` as it reads it: what was heard before stands in what the workers committed, and in when
-- a gateway was last seen.
SELECT (SELECT max(committed_at) FROM ledger_client),
       greatest((SELECT heard_at FROM heard ORDER BY id DESC LIMIT 1),
                (SELECT max(committed_at) FROM ledger_client), (SELECT max(last_seen) FROM gateway)),
       pg_total_relation_size('ledger') + pg_total_relation_size('ledger_timeless'),
       pg_database_size(current_database())

-- name: may_see_gaps
-- A worker's role may not.
SELECT has_table_privilege('coverage_gap', 'SELECT')

-- name: rejections
-- Open ones of the last hour, by reason.
SELECT reason, count(*), max(received_at) FROM rejection
WHERE resolved_at IS NULL AND received_at > now() - interval '1 hour'
GROUP BY reason ORDER BY count(*) DESC
