-- Readings as people read them: codes and names instead of ids.

CREATE VIEW reading_detail AS
SELECT reading.observed_at, terminal.code AS terminal, metric.name AS metric, metric.unit,
       reading.value, reading.quality, cell.division, cell.domain
FROM reading
JOIN terminal ON terminal.id = reading.terminal_id
JOIN metric ON metric.id = reading.metric_id
JOIN cell ON cell.id = reading.cell_id;
