-- One terminal under several names, and what its own name says.

-- The clock alone begins and ends an alias: workers ask for the last time that it did. One that holds from its
-- insertion on changes nothing that they keep: a terminal of its name, if there is one, is retired with it.
ALTER TABLE alias ADD COLUMN announced bool NOT NULL DEFAULT false;
COMMENT ON COLUMN alias.announced IS 'It began, or will, after it was inserted.';
DROP TRIGGER registry_changed ON alias;
CREATE TRIGGER registry_changed AFTER UPDATE OR DELETE ON alias
    FOR EACH STATEMENT EXECUTE FUNCTION raise_registry_version();
CREATE INDEX alias_begins ON alias (valid_from) WHERE announced;
CREATE INDEX alias_ends ON alias (valid_to) WHERE valid_to IS NOT NULL;
CREATE INDEX alias_terminal ON alias (terminal_id);

COMMENT ON TABLE alias IS 'Other names of terminals, each with its time; a name is one terminal''s at a time.';
COMMENT ON COLUMN alias.valid_from IS 'First moment at which the name is this terminal''s.';
COMMENT ON COLUMN alias.valid_to IS 'First moment at which it no longer is; empty: it still is.';

-- Prefixes of registered handles in order, so that the distinct ones are found by leaps, not by reading all.
CREATE INDEX terminal_handle_prefix ON terminal ((split_part(substr(code, 8), '/', 1) COLLATE "C"))
    WHERE scheme = 'handle' AND state IN ('planned', 'installed');

-- A period that touches one that the name already has for this terminal changes that one.
CREATE FUNCTION put_alias(
    terminal_code text, alias_scheme text, alias_value text, since timestamptz, until timestamptz,
    OUT outcome text, OUT reason text, OUT retired text
) LANGUAGE plpgsql AS $$
DECLARE
    mine  int := (SELECT id FROM terminal WHERE code = terminal_code AND scheme <> 'forgotten');
    named terminal;
    own   public.alias;
    taken record;
BEGIN
    outcome := 'refused';
    SELECT * INTO named FROM terminal WHERE code = alias_scheme || ':' || alias_value;
    SELECT * INTO own FROM alias
    WHERE scheme = alias_scheme AND value = alias_value AND terminal_id = mine
      AND (valid_to IS NULL OR valid_to = until OR valid_to > coalesce(since, now()))
    ORDER BY valid_from DESC LIMIT 1;
    since := coalesce(since, own.valid_from, now());
    until := coalesce(until, own.valid_to);
    SELECT code, valid_from, valid_to INTO taken FROM alias JOIN terminal ON terminal.id = terminal_id
    WHERE alias.scheme = alias_scheme AND value = alias_value AND valid_from IS DISTINCT FROM own.valid_from
      AND tstzrange(valid_from, valid_to) && tstzrange(since, CASE WHEN until > since THEN until END)
    ORDER BY valid_from LIMIT 1;
    reason := CASE
        WHEN mine IS NULL THEN format('no terminal %s: import it first', terminal_code)
        WHEN named.id = mine THEN format('%s is its own code', terminal_code)
        WHEN named.state IN ('planned', 'installed') THEN format('%s is a registered terminal itself', named.code)
        WHEN until <= since THEN format('it would end, %s, before it begins, %s', until, since)
        WHEN taken.code IS NOT NULL THEN format('it is %s''s from %s to %s', taken.code, taken.valid_from,
                                                coalesce(taken.valid_to::text, 'further notice'))
    END;
    IF reason IS NOT NULL THEN RETURN; END IF;

    IF own.valid_from IS NULL THEN
        INSERT INTO alias VALUES (alias_scheme, alias_value, mine, since, until, since > now());
        outcome := 'created';
    ELSIF (own.valid_from, own.valid_to) IS DISTINCT FROM (since, until) THEN
        UPDATE alias SET valid_from = since, valid_to = until, announced = announced OR since > now()
        WHERE scheme = alias_scheme AND value = alias_value AND valid_from = own.valid_from;
        outcome := 'updated';
    ELSE
        outcome := 'unchanged';
    END IF;
    IF named.state = 'discovered' AND since <= now() AND (until IS NULL OR now() < until) THEN
        UPDATE terminal SET state = 'retired', retired_on = current_date WHERE id = named.id;
        retired := named.code;
    END IF;
END $$;
REVOKE EXECUTE ON FUNCTION put_alias(text, text, text, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION put_alias(text, text, text, timestamptz, timestamptz) IS
    'Gives a terminal another name for a period, or says why not. A discovered terminal of that name is retired.';
