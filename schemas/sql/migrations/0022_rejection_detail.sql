-- What is kept of a message with many refusals.

COMMENT ON COLUMN rejection.detail IS '[{index, reason, detail, hint, count}]: place in the message, from 0; no index for the whole message. In words the first three readings; of the others place and reason, neighbours together (count).';
