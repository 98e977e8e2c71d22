-- Who is out there: what workers tell the observer, what it remembers, and what it finds.

-- What a batch says of presence, beside who was heard. Arrival order in the batch decides: who is in both was
-- heard first and then said to be offline.
ALTER TABLE heard ALTER COLUMN terminals DROP NOT NULL;
ALTER TABLE heard ADD COLUMN offline bytea, ADD COLUMN refused bytea, ADD COLUMN gateways jsonb,
    ADD COLUMN quality jsonb;
COMMENT ON TABLE heard IS 'Who was heard, a row for each batch, until the observer has taken it into a snapshot.';
COMMENT ON COLUMN heard.terminals IS 'Terminals heard: a Roaring bitmap of their ids, portable format.';
COMMENT ON COLUMN heard.offline IS 'Terminals said to be offline, after anything else that the batch says of them; as terminals.';
COMMENT ON COLUMN heard.refused IS 'Terminals heard in this batch all of whose readings in it were refused; as terminals.';
COMMENT ON COLUMN heard.gateways IS 'Gateways that published: {name: division of the topic, or null}; each at most every 30 s and worker.';

COMMENT ON COLUMN heard.quality IS 'Readings by city: {code: [without a flag, received]}; repeats are none of them.';

-- Gateways that were heard but nobody registered stand here too. Numbers are dense and given by the observer.
ALTER TABLE gateway ADD COLUMN id int UNIQUE, ADD COLUMN registered_at timestamptz,
    ADD COLUMN said_offline_at timestamptz, ADD COLUMN firmware text;
UPDATE gateway SET registered_at = now();
ALTER TABLE gateway ALTER COLUMN registered_at SET DEFAULT now();
COMMENT ON COLUMN gateway.id IS 'Dense number in the observer''s arrays; given by the observer, empty until then.';
COMMENT ON COLUMN gateway.registered_at IS 'Empty: heard, but nobody registered it.';
COMMENT ON COLUMN gateway.said_offline_at IS 'Last time that its status said offline; empty once it says online or is heard again.';
COMMENT ON COLUMN gateway.firmware IS 'As its status says.';
COMMENT ON COLUMN gateway.state IS 'planned (never heard), online, offline (says so) or silent; kept by the observer.';
COMMENT ON COLUMN gateway.first_seen IS 'First message or status that came from it.';
COMMENT ON COLUMN gateway.last_seen IS 'Last message or status that came from it, within half a minute.';

-- Workers read anew only what they keep: when somebody was last seen is none of it.
DROP TRIGGER registry_changed ON terminal;
CREATE TRIGGER registry_changed AFTER DELETE OR UPDATE OF id, code, division, domain, state ON terminal
    FOR EACH STATEMENT EXECUTE FUNCTION raise_registry_version();
DROP TRIGGER registry_changed ON gateway;
CREATE TRIGGER registry_grown AFTER INSERT ON gateway
    FOR EACH ROW WHEN (new.registered_at IS NOT NULL) EXECUTE FUNCTION raise_registry_version();
CREATE TRIGGER registry_changed AFTER UPDATE ON gateway
    FOR EACH ROW WHEN (new.registered_at IS NOT NULL
                       AND (new.name, new.division, new.utc_offset, new.registered_at)
                           IS DISTINCT FROM (old.name, old.division, old.utc_offset, old.registered_at))
    EXECUTE FUNCTION raise_registry_version();
CREATE TRIGGER registry_shrunk AFTER DELETE ON gateway
    FOR EACH ROW EXECUTE FUNCTION raise_registry_version();

-- Which terminals changed, for the observer's arrays; new ones it finds by their ids.
CREATE TABLE registry_change (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    terminals int[] NOT NULL
);
COMMENT ON TABLE registry_change IS 'Terminals whose facts changed or that are gone, a row a statement, until the observer has read them.';
COMMENT ON COLUMN registry_change.terminals IS 'Their ids.';

CREATE FUNCTION note_changed_terminals() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO registry_change (terminals)
    SELECT array_agg(now_.id) FROM now_ JOIN before USING (id)
    WHERE (now_.division, now_.domain, now_.profile, now_.network, now_.gateway, now_.state, now_.report_every,
           now_.installed_on, now_.smart, now_.key_area)
          IS DISTINCT FROM (before.division, before.domain, before.profile, before.network, before.gateway,
           before.state, before.report_every, before.installed_on, before.smart, before.key_area)
    HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER terminal_changed AFTER UPDATE ON terminal REFERENCING OLD TABLE AS before NEW TABLE AS now_
    FOR EACH STATEMENT EXECUTE FUNCTION note_changed_terminals();

CREATE FUNCTION note_removed_terminals() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO registry_change (terminals) SELECT array_agg(id) FROM before HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER terminal_removed AFTER DELETE ON terminal REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION note_removed_terminals();

CREATE INDEX terminal_said_offline ON terminal (id) WHERE said_offline_at IS NOT NULL;

-- Last heard, in blocks of ids: what the bitmaps in heard are taken into.
CREATE TABLE presence (
    first_id int PRIMARY KEY,
    heard    bytea NOT NULL,
    invalid  bytea
);
ALTER TABLE presence ALTER COLUMN heard SET STORAGE EXTERNAL;
COMMENT ON TABLE presence IS 'When each terminal was last heard, 65,536 ids a row; newer arrivals are in heard.';
COMMENT ON COLUMN presence.first_id IS 'Id of the first terminal in the block, a multiple of 65,536.';
COMMENT ON COLUMN presence.heard IS 'A little-endian int32 for each id: seconds since 2020-01-01 UTC, 0 for never.';
COMMENT ON COLUMN presence.invalid IS 'Terminals of the block whose readings were all refused when last heard: a Roaring bitmap of ids.';

CREATE TABLE quality (
    hour      timestamptz NOT NULL,
    division  int NOT NULL,
    unflagged bigint NOT NULL,
    received  bigint NOT NULL,
    PRIMARY KEY (hour, division)
);
COMMENT ON TABLE quality IS 'Readings by hour of arrival and city, and those of them that carry no flag; kept for 90 days.';
COMMENT ON COLUMN quality.division IS 'A city, or 370000 where only the province is known.';
COMMENT ON COLUMN quality.received IS 'Stored and refused ones.';

CREATE TABLE plan (
    version     int NOT NULL,
    division    int NOT NULL REFERENCES division,
    domain      text NOT NULL,
    target      bigint NOT NULL CHECK (target >= 0),
    due_on      date NOT NULL,
    source      text NOT NULL CHECK (source IN ('assumed', 'declared')),
    imported_at timestamptz NOT NULL DEFAULT now(),
    imported_by text NOT NULL DEFAULT session_user,
    PRIMARY KEY (version, division, domain, due_on)
);
COMMENT ON TABLE plan IS 'How many terminals a place should have, and by when; the newest version counts, older ones stay.';
COMMENT ON COLUMN plan.division IS 'A city''s row is its total; rows of its counties only divide it.';
COMMENT ON COLUMN plan.target IS 'Terminals; the last row due by a day is that day''s target.';
COMMENT ON COLUMN plan.source IS 'assumed: spread by census; declared: somebody stands for it.';
COMMENT ON COLUMN plan.imported_by IS 'Role that was logged in to the database.';

CREATE TABLE declared (
    indicator text NOT NULL,
    division  int NOT NULL REFERENCES division,
    value     float8 NOT NULL,
    as_of     date NOT NULL,
    source    text NOT NULL,
    PRIMARY KEY (indicator, division, as_of, source)
);
COMMENT ON TABLE declared IS 'What others publish: shown beside what is measured, never merged with it.';
COMMENT ON COLUMN declared.as_of IS 'Day that the figure is of.';
COMMENT ON COLUMN declared.source IS 'Who said it, and where.';

CREATE TABLE coverage (
    at          timestamptz NOT NULL,
    division    int NOT NULL,
    domain      text NOT NULL,
    planned     bigint NOT NULL,
    installed   bigint NOT NULL,
    verified    bigint NOT NULL,
    active      bigint NOT NULL,
    never_heard bigint NOT NULL,
    live        bigint NOT NULL,
    overdue     bigint NOT NULL,
    lost        bigint NOT NULL,
    retired     bigint NOT NULL,
    discovered  bigint NOT NULL,
    PRIMARY KEY (at, division, domain)
);
COMMENT ON TABLE coverage IS 'Terminals by cell, every 15 minutes for 90 days, then one row a day; empty cells have no row.';
COMMENT ON COLUMN coverage.at IS 'Start of the quarter of an hour in which it was counted.';
COMMENT ON COLUMN coverage.installed IS 'never_heard + live + overdue + lost.';
COMMENT ON COLUMN coverage.verified IS 'Installed and heard at least once.';
COMMENT ON COLUMN coverage.active IS 'Installed and heard in the last 30 days (three reporting intervals if longer).';

CREATE TABLE coverage_gap (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    opened_at       timestamptz NOT NULL,
    closed_at       timestamptz,
    kind            text NOT NULL CHECK (kind IN ('under_target', 'dark', 'outage', 'gateway_offline', 'never_heard')),
    division        int NOT NULL,
    domain          text,
    gateway         text,
    expected        bigint NOT NULL,
    live            bigint NOT NULL,
    evidence        jsonb NOT NULL,
    acknowledged_at timestamptz,
    acknowledged_by text
);
CREATE UNIQUE INDEX coverage_gap_open ON coverage_gap (kind, division, coalesce(domain, ''), coalesce(gateway, ''))
    WHERE closed_at IS NULL;
CREATE INDEX coverage_gap_closed ON coverage_gap (closed_at);
COMMENT ON TABLE coverage_gap IS 'Where terminals are missing, opened once for each cause, closed when it is gone.';
COMMENT ON COLUMN coverage_gap.domain IS 'Empty for a gateway''s gap.';
COMMENT ON COLUMN coverage_gap.gateway IS 'Only where the gateway is the cause.';
COMMENT ON COLUMN coverage_gap.expected IS 'Terminals that should be there.';
COMMENT ON COLUMN coverage_gap.live IS 'Terminals that are there, when last counted.';
COMMENT ON COLUMN coverage_gap.evidence IS 'The figures that opened it, and since when.';

CREATE TABLE planned_maintenance (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    division int,
    domain   text,
    gateway  text,
    since    timestamptz NOT NULL,
    until    timestamptz NOT NULL,
    reason   text NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now(),
    added_by text NOT NULL DEFAULT session_user,
    CHECK (since < until),
    CHECK (division IS NOT NULL OR gateway IS NOT NULL)
);
COMMENT ON TABLE planned_maintenance IS 'Times at which a place or gateway may be silent: no gap opens there, open ones are marked.';
COMMENT ON COLUMN planned_maintenance.division IS 'With the counties within it.';
COMMENT ON COLUMN planned_maintenance.domain IS 'Empty: all of them.';

CREATE TABLE indicator (
    day          date NOT NULL,
    name         text NOT NULL,
    division     int NOT NULL,
    numerator    float8,
    denominator  float8,
    value        float8,
    plan_version int,
    PRIMARY KEY (day, name, division)
);
COMMENT ON TABLE indicator IS 'What the day came to, a row for each indicator and place, kept for ever.';
COMMENT ON COLUMN indicator.name IS 'As the metric without ganzhi_, such as coverage_ratio.';
COMMENT ON COLUMN indicator.value IS 'numerator / denominator where there is one; empty where it is not known.';
COMMENT ON COLUMN indicator.plan_version IS 'The plan that it was counted against.';

-- The cells that a city sees of what is counted.
CREATE INDEX coverage_place ON coverage (division, at);
