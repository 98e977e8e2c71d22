-- The statements of the write path.

-- name: ledger
-- Remember the keys; answer the places (0-based) of those that were known. Sorted, because two workers
-- that insert the same keys in opposite order deadlock. The keys are distinct.
WITH part AS (
    SELECT key, (place - 1)::int AS place FROM unnest(%b::uuid[]) WITH ORDINALITY AS given (key, place)
), fresh AS (
    INSERT INTO ledger (key, seen_at, client)
    SELECT key, now(), %b::smallint FROM part ORDER BY key
    ON CONFLICT DO NOTHING
    RETURNING key
)
SELECT coalesce(array_agg(place), '{}') FROM part WHERE NOT EXISTS (SELECT FROM fresh WHERE fresh.key = part.key)

-- name: ledger_timeless
-- A first delivery (DUP=0) is known only by its own nonce: the same batch written again after a lost COMMIT.
-- A redelivery (DUP=1) is known when the last message under its packet id was the same. Answers those that
-- are new; (packet id, part) is unique in a batch, which holds messages of one connection.
INSERT INTO ledger_timeless AS l (client, packet_id, part, digest, nonce, seen_at)
SELECT %b::smallint, packet_id, part, digest, nonce, now()
FROM unnest(%b::int[], %b::int[], %b::uuid[], %b::uuid[]) AS new (packet_id, part, digest, nonce)
ORDER BY packet_id, part
ON CONFLICT (client, packet_id, part) DO UPDATE
    SET digest = excluded.digest, nonce = excluded.nonce, seen_at = excluded.seen_at
    WHERE CASE WHEN excluded.packet_id = ANY(%b::int[]) THEN l.digest <> excluded.digest
               ELSE l.nonce <> excluded.nonce END
RETURNING packet_id, part

-- name: copy_reading
COPY reading (observed_at, terminal_id, metric_id, cell_id, value, quality) FROM STDIN (FORMAT binary)

-- name: copy_event
COPY event (observed_at, terminal_id, name, body) FROM STDIN

-- name: copy_rejection
COPY rejection (received_at, topic, division, gateway, reason, rejected, total, detail, content_type, payload)
FROM STDIN

-- name: heard
-- Who is there, and that the client commits: one statement, because each costs the writer a wait for the GIL.
WITH heard AS (
    INSERT INTO heard (heard_at, terminals, offline, refused, gateways, quality)
    SELECT to_timestamp(%(at)b::float8), %(heard)b::bytea, %(offline)b::bytea, %(refused)b::bytea, %(gateways)b::jsonb,
           %(quality)b::jsonb
    WHERE num_nonnulls(%(heard)b::bytea, %(offline)b::bytea, %(refused)b::bytea, %(gateways)b::jsonb,
                       %(quality)b::jsonb) > 0
)
UPDATE ledger_client
SET committed_at = now(),
    -- The first commit since it connected, since a pause, or since the clock was set back.
    resumed_at = CASE WHEN now() - committed_at BETWEEN interval '0' AND interval '10 minutes'
                      THEN coalesce(resumed_at, now()) ELSE now() END,
    -- What a client left unacknowledged comes again first, within seconds of its return. So what it stored before
    -- it returned is settled by a commit ten minutes after that, and so is what is ten minutes older than the last.
    settled_at = CASE WHEN now() < committed_at THEN NULL
                      WHEN now() - resumed_at > interval '10 minutes'
                      THEN greatest(resumed_at, committed_at - interval '10 minutes')
                      ELSE settled_at END
WHERE id = %(client)b::smallint

-- name: ensure_days
SELECT ensure_days(%s::regclass, %s::date[])

-- name: client_id
-- The small number that stands for a client's name in the ledger. It connects, and has not committed since.
INSERT INTO ledger_client (id, name)
SELECT coalesce(max(id), 0) + 1, %(name)s FROM ledger_client
ON CONFLICT (name) DO UPDATE SET resumed_at = NULL
RETURNING id
