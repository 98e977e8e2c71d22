-- What each table is for, and each column that its name does not explain; docs/tables.md is made from these.

COMMENT ON TABLE schema_version IS 'Migrations that were applied.';
COMMENT ON COLUMN schema_version.storage IS 'timescale or postgres: the same in every row.';

COMMENT ON TABLE division IS 'Administrative divisions: province, cities, counties, and statistical zones. Seeded by every migration.';
COMMENT ON COLUMN division.code IS 'GB/T 2260, six digits.';
COMMENT ON COLUMN division.level IS 'province, city, county or zone.';
COMMENT ON COLUMN division.parent IS 'Code of the division that this one rolls up to; none for the province.';

COMMENT ON TABLE cell IS 'Division x domain: what coverage is counted by.';
COMMENT ON COLUMN cell.id IS 'Dense and stable: readings carry it.';

COMMENT ON TABLE metric IS 'What is measured: the catalogue, and what was registered as it came.';
COMMENT ON COLUMN metric.unit IS 'Unit that values are stored in (RFC 8428 spelling).';
COMMENT ON COLUMN metric.hard_low IS 'Below it a reading is refused as out_of_range; in unit.';
COMMENT ON COLUMN metric.hard_high IS 'Above it a reading is refused as out_of_range; in unit.';
COMMENT ON COLUMN metric.soft_low IS 'Below it a reading is stored with the suspect bit; in unit.';
COMMENT ON COLUMN metric.soft_high IS 'Above it a reading is stored with the suspect bit; in unit.';
COMMENT ON COLUMN metric.catalogued IS 'Of the catalogue; else somebody sent it.';

COMMENT ON TABLE gateway IS 'What publishes for many terminals: edge gateways, and bridges for platforms.';
COMMENT ON COLUMN gateway.name IS 'As in the topic.';
COMMENT ON COLUMN gateway.division IS 'Counts where the topic names none.';
COMMENT ON COLUMN gateway.utc_offset IS 'Set for one that sends local time as UTC: its times are repaired by it, and flagged.';

COMMENT ON TABLE terminal IS 'Sensing devices: registered ones, and those that were discovered because they sent.';
COMMENT ON COLUMN terminal.id IS 'Dense: bitmaps and readings carry it.';
COMMENT ON COLUMN terminal.code IS 'Canonical identity in the field, such as imei:N, gb28181:N, handle:N.';
COMMENT ON COLUMN terminal.scheme IS 'Kind of code: imei, gb28181, handle, bid, ..., other.';
COMMENT ON COLUMN terminal.profile IS 'Kind of device, such as video; stands for a report_every.';
COMMENT ON COLUMN terminal.network IS 'How it is connected, such as nbiot.';
COMMENT ON COLUMN terminal.gateway IS 'Name of the gateway that it comes through.';
COMMENT ON COLUMN terminal.state IS 'Life cycle: planned, installed, retired, discovered. Whether it is live is not kept here.';
COMMENT ON COLUMN terminal.report_every IS 'How often it is meant to be heard; else its profile''s, else 24 h.';
COMMENT ON COLUMN terminal.smart IS 'Video: recognises by itself; unknown is neither.';
COMMENT ON COLUMN terminal.key_area IS 'Video: in a key public area; unknown is neither.';
COMMENT ON COLUMN terminal.lon IS 'Degrees east, WGS 84.';
COMMENT ON COLUMN terminal.lat IS 'Degrees north, WGS 84.';
COMMENT ON COLUMN terminal.first_heard_at IS 'First arrival at the service: verified since.';
COMMENT ON COLUMN terminal.said_offline_at IS 'Last offline notice; ends live until it is heard again.';

COMMENT ON TABLE alias IS 'Other names of a terminal, such as a platform''s device id.';
COMMENT ON COLUMN alias.valid_to IS 'Empty while it holds.';

COMMENT ON TABLE reading IS 'One number each: terminal, metric, time, value. The large table.';
COMMENT ON COLUMN reading.observed_at IS 'The device''s time; the arrival''s where it sent none.';
COMMENT ON COLUMN reading.cell_id IS 'The terminal''s cell at that moment.';
COMMENT ON COLUMN reading.value IS 'In the metric''s unit.';
COMMENT ON COLUMN reading.quality IS 'Bits: 1 suspect, 2 time from arrival, 4 unit converted, 8 clock repaired, 16 late.';

COMMENT ON TABLE event IS 'One observation each that is no number: terminal, name, time, body.';
COMMENT ON COLUMN event.observed_at IS 'The device''s time; the arrival''s where it sent none.';

COMMENT ON VIEW reading_hourly IS 'Readings by hour, cell and metric.';
COMMENT ON COLUMN reading_hourly.bucket IS 'Start of the hour, UTC.';
COMMENT ON COLUMN reading_hourly.n IS 'Readings.';
COMMENT ON COLUMN reading_hourly.sum IS 'In the metric''s unit, as min and max.';
COMMENT ON VIEW reading_daily IS 'Readings by day, terminal and metric.';
COMMENT ON COLUMN reading_daily.bucket IS 'Start of the day, UTC.';
COMMENT ON COLUMN reading_daily.n IS 'Readings.';
COMMENT ON COLUMN reading_daily.sum IS 'In the metric''s unit, as min and max.';

COMMENT ON VIEW reading_detail IS 'Readings as people read them: codes and names instead of ids.';
COMMENT ON COLUMN reading_detail.terminal IS 'The terminal''s code.';
COMMENT ON COLUMN reading_detail.metric IS 'The metric''s name.';
COMMENT ON COLUMN reading_detail.unit IS 'Unit of value.';
COMMENT ON COLUMN reading_detail.quality IS 'Bits, as in reading.';
COMMENT ON COLUMN reading_detail.division IS 'Of the cell that the reading was stored with.';
COMMENT ON COLUMN reading_detail.domain IS 'Of the cell that the reading was stored with.';

COMMENT ON TABLE rejection IS 'The quarantine: a message of which some or all was refused, a row each.';
COMMENT ON COLUMN rejection.division IS 'As the topic says; none where it says none.';
COMMENT ON COLUMN rejection.reason IS 'Of its first refused reading; one of the closed set.';
COMMENT ON COLUMN rejection.rejected IS 'Readings and events refused.';
COMMENT ON COLUMN rejection.total IS 'Readings and events in the message.';
COMMENT ON COLUMN rejection.detail IS '[{index, reason, detail, hint}]: place in the message, from 0; no index for the whole message.';
COMMENT ON COLUMN rejection.payload IS 'As it came; cut only when it was too_large.';
COMMENT ON COLUMN rejection.resolved_at IS 'When a replay stored it; empty while it is open.';

COMMENT ON TABLE ledger IS 'What makes a message count once: parts that were committed, for GANZHI_LEDGER_HOURS.';
COMMENT ON COLUMN ledger.key IS 'Digest of the part''s identity.';
COMMENT ON COLUMN ledger.client IS 'Id of the worker in ledger_client.';
COMMENT ON TABLE ledger_timeless IS 'The same for payloads without a time of their own: the last one under each packet id.';
COMMENT ON COLUMN ledger_timeless.client IS 'Id of the worker in ledger_client.';
COMMENT ON COLUMN ledger_timeless.packet_id IS 'MQTT packet id.';
COMMENT ON COLUMN ledger_timeless.part IS 'Place of the part in its message, from 0.';
COMMENT ON COLUMN ledger_timeless.nonce IS 'Drawn once at receipt: tells a batch that is written again from a packet id that is used again.';
COMMENT ON TABLE ledger_client IS 'Workers by their client id at the broker.';
COMMENT ON COLUMN ledger_client.committed_at IS 'Its newest commit.';

COMMENT ON TABLE heard IS 'Terminals heard, a row for each batch, until they are taken into a snapshot.';
COMMENT ON COLUMN heard.heard_at IS 'Arrival of the batch''s newest message.';
COMMENT ON COLUMN heard.terminals IS 'Roaring bitmap of terminal ids, portable format.';
