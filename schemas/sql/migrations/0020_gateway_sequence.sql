-- Messages that gateways number themselves are known for as long as readings of their age are taken.

CREATE TABLE gateway_sequence (
    gateway text NOT NULL,
    epoch   bigint NOT NULL,
    block   bigint NOT NULL,
    seen    bigint[] NOT NULL,
    seen_on date NOT NULL,
    PRIMARY KEY (gateway, epoch, block)
) WITH (fillfactor = 50); -- a row is written by most batches until its numbers are through: on its page, and in no index
CREATE INDEX gateway_sequence_seen_on ON gateway_sequence (seen_on);
COMMENT ON TABLE gateway_sequence IS 'What makes a numbered message count once beyond the ledger: 64 numbers of a gateway a row, for GANZHI_MAX_AGE_DAYS.';
COMMENT ON COLUMN gateway_sequence.gateway IS 'Its name in the topic.';
COMMENT ON COLUMN gateway_sequence.epoch IS 'MQTT 5 user property epoch: the gateway''s numbering began anew.';
COMMENT ON COLUMN gateway_sequence.block IS 'Number (user property seq) divided by 64.';
COMMENT ON COLUMN gateway_sequence.seen IS 'An entry for each number that was committed: the number modulo 64 in the lowest 6 bits, a hash of what it brought above.';
COMMENT ON COLUMN gateway_sequence.seen_on IS 'Day (UTC) of the last commit into this row.';
COMMENT ON COLUMN maintenance.job IS 'duplicates, differing, compact, recompress, drop_raw, drop_rollups, ledger, ledger_timeless, gateway_sequence, heard or rejection.';
