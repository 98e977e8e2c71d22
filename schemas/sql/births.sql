-- Sparkplug births: kept with the message that brought them, read by whoever gets the data.

-- name: read
-- Births of these nodes, those left out that the worker has in the version that stands here.
SELECT changed::text, edge, device, born_ms, received_ms, bd_seq, alive, metrics
FROM sparkplug_birth
LEFT JOIN unnest(%(edge)s::text[], %(device)s::text[], %(changed)s::text[]) AS seen (edge, device, version)
    USING (edge, device)
WHERE edge = ANY(%(edges)s::text[]) AND version IS DISTINCT FROM changed::text

-- name: put
-- A death changes the birth that it ends, which a new one may have replaced meanwhile. Of two births the later one
-- stays, as `Birth.replaces` has it.
INSERT INTO sparkplug_birth AS b (edge, device, born_ms, received_ms, bd_seq, alive, metrics)
VALUES (%(edge)s, %(device)s, %(born_ms)s, %(received_ms)s, %(bd_seq)s, %(alive)s, %(metrics)s)
ON CONFLICT (edge, device) DO UPDATE
    SET born_ms = excluded.born_ms, received_ms = excluded.received_ms, bd_seq = excluded.bd_seq,
        alive = excluded.alive, metrics = excluded.metrics, changed = pg_current_xact_id()
    WHERE CASE WHEN NOT excluded.alive THEN b.born_ms = excluded.born_ms
               WHEN abs(excluded.received_ms - b.received_ms) <= %(skew_ms)s THEN excluded.born_ms >= b.born_ms
               ELSE excluded.received_ms > b.received_ms END

-- name: ask
-- Which of these nodes may be asked for their births now: those that no worker asked within the last seconds.
-- Sorted, or two workers deadlock.
INSERT INTO sparkplug_request AS r (edge, asked_at)
SELECT edge, clock_timestamp() FROM unnest(%(edges)s::text[]) AS edge ORDER BY edge
ON CONFLICT (edge) DO UPDATE SET asked_at = excluded.asked_at
    WHERE r.asked_at NOT BETWEEN excluded.asked_at - make_interval(secs => %(seconds)s) AND excluded.asked_at
RETURNING edge
