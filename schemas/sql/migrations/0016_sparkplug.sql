-- What Sparkplug edge nodes and devices said at birth: data messages carry aliases only.

CREATE TABLE sparkplug_birth (
    edge        text NOT NULL,
    device      text NOT NULL,
    born_ms     bigint NOT NULL,
    received_ms bigint NOT NULL,
    bd_seq      smallint,
    alive       bool NOT NULL,
    metrics     jsonb NOT NULL,
    changed     xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (edge, device)
);
COMMENT ON TABLE sparkplug_birth IS 'The last birth of each Sparkplug edge node and device, so that any worker can read their data.';
COMMENT ON COLUMN sparkplug_birth.edge IS 'group/edge.';
COMMENT ON COLUMN sparkplug_birth.device IS 'The device; empty for the edge node itself.';
COMMENT ON COLUMN sparkplug_birth.born_ms IS 'Time of the birth as the node gives it, Unix ms; a device''s counts from its node''s on.';
COMMENT ON COLUMN sparkplug_birth.received_ms IS 'Its arrival at a worker, Unix ms: tells births apart from a clock that was set back.';
COMMENT ON COLUMN sparkplug_birth.bd_seq IS 'Number of the node''s connection, 0 to 255; a death counts when it has the same.';
COMMENT ON COLUMN sparkplug_birth.alive IS 'Not since its death came; its aliases count no longer.';
COMMENT ON COLUMN sparkplug_birth.metrics IS 'Of each metric name, datatype, alias and unit.';
COMMENT ON COLUMN sparkplug_birth.changed IS 'Transaction that wrote it last: workers read again what is of another one than they have.';
