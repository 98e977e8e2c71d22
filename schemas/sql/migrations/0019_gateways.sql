-- What a gateway may bring, and through which gateways terminals come.

CREATE TABLE terminal_gateway (
    terminal_id int NOT NULL,
    gateway     text NOT NULL,
    since       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (terminal_id, gateway)
);
COMMENT ON TABLE terminal_gateway IS 'Other gateways that a terminal was heard through, beside its own (terminal.gateway); each was one event gateway_changed.';
COMMENT ON COLUMN terminal_gateway.since IS 'When it was first heard through it.';
COMMENT ON COLUMN terminal.gateway IS 'What it comes through, as registered; else the first that it was heard through.';

-- How many unknown terminals a gateway brought within the hour. Small: whoever is registered leaves it.
CREATE INDEX terminal_discovered ON terminal (coalesce(gateway, ''), registered_at) WHERE state = 'discovered';
