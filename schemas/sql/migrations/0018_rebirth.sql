-- When Sparkplug nodes were asked for their births: once for all workers, which don't know of each other.

CREATE TABLE sparkplug_request (
    edge     text PRIMARY KEY,
    asked_at timestamptz NOT NULL
);
COMMENT ON TABLE sparkplug_request IS 'The last rebirth request to each Sparkplug edge node, so that only one of the workers asks.';
COMMENT ON COLUMN sparkplug_request.edge IS 'group/edge.';
COMMENT ON COLUMN sparkplug_request.asked_at IS 'When a worker asked it for its births.';
