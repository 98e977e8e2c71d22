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
-- are new; (packet id, part) is unique in a batch, which holds messages of one connection. IN is hashed; of = ANY a
-- generic plan looks at all for each: 4.5 s for 21,844.
INSERT INTO ledger_timeless AS l (client, packet_id, part, digest, nonce, seen_at)
SELECT %b::smallint, packet_id, part, digest, nonce, now()
FROM unnest(%b::int[], %b::int[], %b::uuid[], %b::uuid[]) AS new (packet_id, part, digest, nonce)
ORDER BY packet_id, part
ON CONFLICT (client, packet_id, part) DO UPDATE
    SET digest = excluded.digest, nonce = excluded.nonce, seen_at = excluded.seen_at
    WHERE CASE WHEN excluded.packet_id IN (SELECT unnest(%b::int[])) THEN l.digest <> excluded.digest
               ELSE l.nonce <> excluded.nonce END
RETURNING packet_id, part

-- name: numbers_seen
-- What came under numbers of these gateways.
SELECT gateway, epoch, block, seen FROM gateway_sequence
JOIN unnest(%b::text[], %b::bigint[], %b::bigint[]) AS wanted (gateway, epoch, block) USING (gateway, epoch, block)

-- name: keep_numbers
-- Entries into the rows of their gateways, merged with what other workers put there meanwhile. One a number: of two
-- the later stays. Sorted, as in the ledger; and last in the transaction, since workers share their gateways.
INSERT INTO gateway_sequence AS s (gateway, epoch, block, seen, seen_on)
SELECT gateway, epoch, block, array_agg(entry), current_date
FROM unnest(%b::text[], %b::bigint[], %b::bigint[], %b::bigint[]) AS new (gateway, epoch, block, entry)
GROUP BY gateway, epoch, block ORDER BY gateway, epoch, block
ON CONFLICT (gateway, epoch, block) DO UPDATE
    SET seen_on = excluded.seen_on,
        seen = ARRAY(SELECT e FROM unnest(s.seen) AS e
                     WHERE e & 63 <> ALL (ARRAY(SELECT n & 63 FROM unnest(excluded.seen) AS n))) || excluded.seen

-- name: copy_reading
COPY reading (observed_at, terminal_id, metric_id, cell_id, value, quality) FROM STDIN (FORMAT binary)

-- name: copy_event
COPY event (observed_at, terminal_id, name, body) FROM STDIN

-- name: terminal_gateway
-- Answers the pairs that are news: neither the terminal's own gateway nor one that it was heard through before.
-- Sorted, because two workers that insert the same pairs in opposite order deadlock.
INSERT INTO terminal_gateway (terminal_id, gateway)
SELECT new.terminal_id, new.gateway FROM unnest(%s::int[], %s::text[]) AS new (terminal_id, gateway)
WHERE NOT EXISTS (SELECT FROM terminal WHERE terminal.id = new.terminal_id AND terminal.gateway = new.gateway)
ORDER BY terminal_id, gateway
ON CONFLICT DO NOTHING
RETURNING terminal_id, gateway

-- name: compress_fast
-- For refused payloads and what is said of them: 37 us a message of 9 kB, 90 the server's own way, for an eighth less.
SELECT set_config(name, 'lz4', false) FROM pg_settings
WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)

-- name: copy_rejection
COPY rejection (received_at, topic, division, gateway, reason, rejected, total, detail, content_type, payload)
FROM STDIN (FORMAT binary)

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
-- The small number that stands for a client's name in the ledger, and whether the broker has a session for it: a client
-- that committed had one, until it is ended on purpose. It connects, and has not committed since.
INSERT INTO ledger_client (id, name)
SELECT coalesce(max(id), 0) + 1, %(name)s FROM ledger_client
ON CONFLICT (name) DO UPDATE SET resumed_at = NULL
RETURNING id, coalesce(committed_at > coalesce(ended_at, '-infinity'), false)

-- name: end_session
UPDATE ledger_client SET ended_at = now() WHERE name = %s
