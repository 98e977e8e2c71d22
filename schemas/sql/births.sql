-- Sparkplug births: kept with the message that brought them, read by whoever gets the data.

-- name: read
-- Births of nodes that this worker doesn't know yet, and all that changed since it looked; one row at least. The
-- first column is what to come back with: whatever is not to be seen now will be of this transaction or a newer one.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text, edge, device, born_ms, bd_seq, alive, metrics
FROM (VALUES (1)) AS one
LEFT JOIN sparkplug_birth ON edge = ANY(%(unknown)s::text[]) OR changed >= %(since)s::text::xid8

-- name: put
-- A death changes the birth that it ends, which a new one may have replaced meanwhile.
INSERT INTO sparkplug_birth AS b (edge, device, born_ms, bd_seq, alive, metrics)
VALUES (%(edge)s, %(device)s, %(born_ms)s, %(bd_seq)s, %(alive)s, %(metrics)s)
ON CONFLICT (edge, device) DO UPDATE
    SET born_ms = excluded.born_ms, bd_seq = excluded.bd_seq, alive = excluded.alive, metrics = excluded.metrics,
        changed = pg_current_xact_id()
    WHERE excluded.alive OR b.born_ms = excluded.born_ms
