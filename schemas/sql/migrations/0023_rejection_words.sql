-- Neighbours that are refused alike are one entry.

COMMENT ON COLUMN rejection.detail IS '[{index, reason, detail, hint, count}]: place in the message, from 0; no index for the whole message. Neighbours that are refused for the same reason are one entry (count), with the words of the first of them; the first three entries for readings of a message have words.';
