-- What workers look at every few seconds, to see a change of the registry within 10 s. The discovery of a
-- terminal is no change: nobody can have cached one that was not there.

CREATE TABLE registry_version (version bigint NOT NULL);
INSERT INTO registry_version VALUES (1);
COMMENT ON TABLE registry_version IS 'One row, raised with every change of the registry; workers that see it read anew.';
COMMENT ON COLUMN registry_version.version IS 'Counts the changes.';

CREATE FUNCTION raise_registry_version() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE registry_version SET version = version + 1;
    RETURN NULL;
END $$;

CREATE TRIGGER registry_changed AFTER UPDATE OR DELETE ON terminal
    FOR EACH STATEMENT EXECUTE FUNCTION raise_registry_version();
CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE ON alias
    FOR EACH STATEMENT EXECUTE FUNCTION raise_registry_version();
CREATE TRIGGER registry_changed AFTER INSERT OR UPDATE OR DELETE ON gateway
    FOR EACH STATEMENT EXECUTE FUNCTION raise_registry_version();
CREATE TRIGGER registry_changed AFTER UPDATE OR DELETE ON metric
    FOR EACH STATEMENT EXECUTE FUNCTION raise_registry_version();
