-- What the registry's commands need beside the tables of the path.

-- What an id says of its device counts less than what somebody declared.
ALTER TABLE terminal ADD COLUMN key_area_inferred bool NOT NULL DEFAULT false;
COMMENT ON COLUMN terminal.key_area_inferred IS 'key_area follows from the GB/T 28181 id; nobody declared it.';
COMMENT ON COLUMN terminal.site IS 'Where it stands, in words.';

CREATE TABLE audit (
    at      timestamptz NOT NULL DEFAULT now(),
    actor   text NOT NULL DEFAULT session_user,
    action  text NOT NULL,
    subject text NOT NULL,
    detail  jsonb NOT NULL
);
CREATE INDEX audit_at ON audit (at);
COMMENT ON TABLE audit IS 'Who changed what by command: plan, registry, retire, replay and forget leave a line.';
COMMENT ON COLUMN audit.actor IS 'Role that was logged in to the database.';
COMMENT ON COLUMN audit.action IS 'The command, such as terminals import.';
COMMENT ON COLUMN audit.subject IS 'What it was about: a file, a code.';
COMMENT ON COLUMN audit.detail IS 'Counts, or what was there before.';
