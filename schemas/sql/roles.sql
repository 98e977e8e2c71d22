-- Who may do what. Made and made again by `ganzhi migrate --roles`, all in one transaction.
-- {role}, {verifier}, {others} and {granted_by} are filled in by ingest/roles.py.

-- name: lock
SELECT pg_advisory_xact_lock(hashtext('ganzhi.migrate'))

-- name: is_superuser
SELECT rolsuper FROM pg_roles WHERE rolname = current_user

-- name: in_use
-- Roles belong to the whole server; that this database has them shows in who owns it.
SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public' AND tablename = 'schema_version'
               AND tableowner = 'ganzhi_owner')

-- name: role_exists
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)

-- name: create_role
CREATE ROLE {role}

-- name: may_log_in
ALTER ROLE {role} LOGIN

-- name: ours
-- Those of cities that nobody named this time too.
SELECT rolname FROM pg_roles WHERE rolname ~ '^ganzhi_(owner|writer|observer|reader|reader_\d{6}|city)$' ORDER BY rolname

-- name: nothing_special
ALTER ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS

-- name: strays
-- Of which roles ours are members and should not be. Who is a member of ours is for the server's administrator.
SELECT member.rolname, others.rolname, coalesce(grantor.rolname, current_user)
FROM pg_auth_members AS m JOIN pg_roles AS member ON member.oid = m.member JOIN pg_roles AS others ON others.oid = m.roleid
    LEFT JOIN pg_roles AS grantor ON grantor.oid = m.grantor
WHERE member.rolname = ANY (%s) AND NOT (others.rolname = 'ganzhi_city' AND member.rolname ~ '^ganzhi_reader_\d{6}$')

-- name: leave
REVOKE {others} FROM {role} GRANTED BY {granted_by} CASCADE

-- name: password
ALTER ROLE {role} PASSWORD {verifier}

-- name: reads_only
-- Guards against mistakes, which a session may lift for itself; what it may read is a matter of grants.
ALTER ROLE {role} SET default_transaction_read_only = on;
ALTER ROLE {role} SET statement_timeout = '30s';
ALTER ROLE {role} SET idle_in_transaction_session_timeout = '60s'

-- name: city_reader
-- The same table names mean the city's views.
ALTER ROLE {role} SET search_path = city, public;
GRANT ganzhi_city TO {role}

-- name: own
-- Everything of ours in public and the jobs that maintain it go to the owner; what an extension made stays.
-- A continuous aggregate takes its hidden tables along as MATERIALIZED VIEW only (measured: 2.28.3, 2.29.2).
DO $$
DECLARE
    timescale bool := to_regclass('_timescaledb_catalog.bgw_job') IS NOT NULL;
    aggregates text[] := '{}';
    jobs bool := false;
    item record;
BEGIN
    IF timescale THEN
        SELECT coalesce(array_agg(user_view_name::text), '{}') INTO aggregates
        FROM _timescaledb_catalog.continuous_agg WHERE user_view_schema = 'public';
        SELECT EXISTS (SELECT FROM _timescaledb_catalog.bgw_job
                       WHERE proc_schema = 'public' AND owner <> 'ganzhi_owner'::regrole) INTO jobs;
    END IF;
    FOR item IN
        SELECT CASE WHEN c.relname = ANY (aggregates) THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END AS kind,
               c.oid::regclass::text AS name
        FROM pg_class AS c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
          AND c.relowner <> 'ganzhi_owner'::regrole
          AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e')
        UNION ALL
        SELECT 'ROUTINE', p.oid::regprocedure::text FROM pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proowner <> 'ganzhi_owner'::regrole
          AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND d.deptype = 'e')
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO ganzhi_owner', item.kind, item.name);
    END LOOP;
    IF jobs THEN -- policies go with their table; jobs of our own don't, and no statement gives them away
        UPDATE _timescaledb_catalog.bgw_job SET owner = 'ganzhi_owner'::regrole WHERE proc_schema = 'public';
    END IF;
END $$

-- name: database
-- CONNECT and TEMPORARY are everybody's by default; a temporary table is what tricks lent functions are made of.
DO $$
DECLARE
    others text := (SELECT string_agg(quote_ident(rolname), ', ') FROM pg_roles
                    WHERE rolname ~ '^ganzhi_(writer|observer|reader|reader_\d{6}|city)$');
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC, %s', current_database(), others);
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO ganzhi_owner, ganzhi_writer, ganzhi_observer, ganzhi_reader, '
                   'ganzhi_city', current_database());
    EXECUTE format('GRANT CREATE, TEMPORARY ON DATABASE %I TO ganzhi_owner', current_database());
    ALTER SCHEMA public OWNER TO ganzhi_owner;
    IF to_regnamespace('city') IS NOT NULL THEN -- from a dump it is the superuser's, and couldn't be made anew
        ALTER SCHEMA city OWNER TO ganzhi_owner;
    END IF;
    EXECUTE format('REVOKE ALL ON SCHEMA public FROM PUBLIC, %s', others);
END $$;
GRANT USAGE ON SCHEMA public TO ganzhi_writer, ganzhi_observer, ganzhi_reader, ganzhi_city

-- name: functions
-- What anybody may run on a new server, and no reader must. Only a superuser closes these.
-- TimescaleDB's own: 2.28.3 lets any login drop or freeze a chunk of any table (2.29.2 asks whose it is), and all
-- let it run jobs. All that the extension marks volatile is the owner's, but for the few that only read, so that
-- what a later version brings is closed too. COPY and the reads of rollups call none of them as SQL.
DO $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT p.oid::regprocedure AS routine FROM pg_proc AS p
        JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
        JOIN pg_extension AS e ON e.oid = d.refobjid
        WHERE e.extname = 'timescaledb' AND p.provolatile = 'v' AND p.prokind IN ('f', 'p')
          AND p.proname !~ '^(time_bucket_gapfill|interpolate|locf|time_to_internal|tsl_loaded|chunk_status|.*uuid.*'
                           '|.*_size|.*_row_count)$'
    LOOP
        EXECUTE format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', item.routine);
        EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO ganzhi_owner', item.routine);
    END LOOP;
    -- An advisory lock of a reader's would stop registration; large objects and WAL messages are disk, also for a
    -- session that is read-only (large objects before PostgreSQL 16).
    FOR item IN
        SELECT p.oid::regprocedure AS routine, p.proname ~ 'advisory' AS is_lock FROM pg_proc AS p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace
          AND p.proname ~ '^(pg_(try_)?advisory_.*|lo_.*|loread|lowrite|pg_logical_emit_message)$'
    LOOP
        EXECUTE format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', item.routine);
        IF item.is_lock THEN
            EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO ganzhi_owner, ganzhi_writer, ganzhi_observer', item.routine);
        END IF;
    END LOOP;
END $$

-- name: as_owner
SET LOCAL ROLE ganzhi_owner

-- name: grants
-- First everything is taken back, from PUBLIC and every city too; other roles of the server keep what they were given.
-- Then one line a right. Tables that a later release brings may stand here before they exist.
DO $$
DECLARE
    lent record;
    others text := 'PUBLIC, ' || (SELECT string_agg(quote_ident(rolname), ', ') FROM pg_roles
                                  WHERE rolname ~ '^ganzhi_(writer|observer|reader|reader_\d{6}|city)$');
BEGIN
    EXECUTE format('ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM %s', others);
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM %s', others);
    FOR lent IN
        SELECT CASE WHEN relkind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS what, oid::regclass AS name FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
          AND relowner = 'ganzhi_owner'::regrole
    LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM %s CASCADE', lent.what, lent.name, others);
    END LOOP;
    FOR lent IN
        SELECT role, what, name FROM (VALUES
            ('ganzhi_writer', 'INSERT', '{reading,event}'),
            ('ganzhi_writer', 'SELECT, INSERT', '{ledger,terminal,metric,alias}'),
            -- What it discovered under another name is one terminal once a platform says so.
            ('ganzhi_writer', 'UPDATE (state, retired_on)', '{terminal}'),
            -- The first gateway that a terminal was heard through, where nobody named one; and the others.
            ('ganzhi_writer', 'UPDATE (gateway)', '{terminal}'),
            ('ganzhi_writer', 'SELECT, INSERT', '{terminal_gateway}'),
            ('ganzhi_writer', 'SELECT, INSERT, UPDATE', '{ledger_timeless,ledger_client,sparkplug_birth,sparkplug_request,gateway_sequence}'),
            -- A replay marks what it stored, and changes nothing about what came.
            ('ganzhi_writer', 'SELECT, INSERT, UPDATE (reason, rejected, detail, resolved_at)', '{rejection}'),
            ('ganzhi_writer', 'SELECT (id, heard_at), INSERT', '{heard}'),
            ('ganzhi_writer', 'INSERT', '{audit}'),
            ('ganzhi_writer', 'SELECT', '{cell,division,gateway,registry_version,schema_version}'),
            ('ganzhi_observer', 'SELECT', '{reading,event,rejection,reading_hourly,reading_daily,reading_detail}'),
            ('ganzhi_observer', 'SELECT', '{ledger,ledger_timeless,ledger_client,registry_version,schema_version}'),
            ('ganzhi_observer', 'SELECT', '{alias,cell,division,metric,plan,declared,maintenance,maintenance_span}'),
            ('ganzhi_observer', 'SELECT, UPDATE (first_heard_at, said_offline_at)', '{terminal}'),
            -- A gateway that was heard, and nobody registered, gets a row.
            ('ganzhi_observer', 'SELECT, INSERT', '{gateway}'),
            ('ganzhi_observer', 'UPDATE (id, division, state, first_seen, last_seen, firmware, said_offline_at)', '{gateway}'),
            ('ganzhi_observer', 'SELECT, DELETE', '{heard,registry_change}'),
            ('ganzhi_observer', 'SELECT, INSERT', '{audit}'),
            ('ganzhi_observer', 'SELECT, INSERT, UPDATE (until), DELETE', '{planned_maintenance}'),
            ('ganzhi_observer', 'SELECT, INSERT, UPDATE, DELETE', '{presence,quality,coverage,coverage_gap,indicator}'),
            ('ganzhi_reader', 'SELECT', '{reading,event,rejection,reading_hourly,reading_daily,reading_detail}'),
            ('ganzhi_reader', 'SELECT', '{alias,cell,division,gateway,metric,terminal,terminal_gateway,schema_version}'),
            ('ganzhi_reader', 'SELECT', '{plan,declared,coverage,coverage_gap,planned_maintenance,indicator,quality,audit}'),
            -- Of no city in particular; all else a city reads through schema city.
            ('ganzhi_city', 'SELECT', '{cell,division,metric,schema_version}')
        ) AS grants (role, what, names), unnest(names::text[]) AS name
        WHERE to_regclass('public.' || name) IS NOT NULL
    LOOP
        EXECUTE format('GRANT %s ON public.%I TO %I', lent.what, lent.name, lent.role);
    END LOOP;
    FOR lent IN
        SELECT p.oid::regprocedure AS routine FROM pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proowner = 'ganzhi_owner'::regrole
          AND (p.prosecdef OR p.provolatile = 'v') -- what remains only reads, with the caller's rights
    LOOP
        EXECUTE format('REVOKE ALL ON ROUTINE %s FROM %s CASCADE', lent.routine, others);
    END LOOP;
    FOR lent IN
        SELECT role, to_regprocedure('public.' || name) AS routine FROM (VALUES
            ('ganzhi_writer', 'ensure_days(regclass, date[])'),
            ('ganzhi_writer', 'put_alias(text, text, text, timestamptz, timestamptz)')
        ) AS grants (role, name)
        WHERE to_regprocedure('public.' || name) IS NOT NULL
    LOOP
        EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', lent.routine, lent.role);
    END LOOP;
END $$

-- name: city_views
-- A city's rows of what people read, under the names that they know. Views, because TimescaleDB refuses row
-- security on a table with columnstore, and the other way round (measured: 2.28.3 and 2.29.2). A barrier lets
-- no function of the reader's see a row that is not its own. (SELECT ...) is computed once a query.
DROP SCHEMA IF EXISTS city CASCADE;
CREATE SCHEMA city;
GRANT USAGE ON SCHEMA city TO ganzhi_city;

-- The divisions of whoever asks: its own, counties and zones within it. The role's name says which.
CREATE FUNCTION city.divisions() RETURNS int[]
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(code) FROM public.division,
           CAST(substring(current_user FROM '^ganzhi_reader_(\d{6})$') AS int) AS own
    WHERE code = own OR parent = own
$$;

-- The cells of whoever asks. Joined, not an array: a count of 5 M readings takes 0.16 s instead of 1.8 s.
CREATE VIEW city.own_cell AS SELECT id FROM public.cell WHERE division = ANY ((SELECT city.divisions())::int[]);

CREATE VIEW city.reading WITH (security_barrier) AS
SELECT * FROM public.reading WHERE cell_id IN (SELECT id FROM city.own_cell);

CREATE VIEW city.reading_hourly WITH (security_barrier) AS
SELECT * FROM public.reading_hourly WHERE cell_id IN (SELECT id FROM city.own_cell);

CREATE VIEW city.reading_detail WITH (security_barrier) AS
SELECT * FROM public.reading_detail WHERE division = ANY ((SELECT city.divisions())::int[]);

CREATE VIEW city.terminal WITH (security_barrier) AS
SELECT * FROM public.terminal WHERE division = ANY ((SELECT city.divisions())::int[]);

CREATE VIEW city.gateway WITH (security_barrier) AS
SELECT * FROM public.gateway WHERE division = ANY ((SELECT city.divisions())::int[]);

CREATE VIEW city.rejection WITH (security_barrier) AS
SELECT * FROM public.rejection WHERE division = ANY ((SELECT city.divisions())::int[]);

CREATE VIEW city.coverage WITH (security_barrier) AS
SELECT * FROM public.coverage WHERE division = ANY ((SELECT city.divisions())::int[]);

CREATE VIEW city.coverage_gap WITH (security_barrier) AS
SELECT * FROM public.coverage_gap WHERE division = ANY ((SELECT city.divisions())::int[]);

CREATE VIEW city.indicator WITH (security_barrier) AS
SELECT * FROM public.indicator WHERE division = ANY ((SELECT city.divisions())::int[]);

CREATE VIEW city.plan WITH (security_barrier) AS
SELECT * FROM public.plan WHERE division = ANY ((SELECT city.divisions())::int[]);

-- These carry no cell: theirs is the terminal's division of today.
CREATE VIEW city.reading_daily WITH (security_barrier) AS
SELECT daily.* FROM public.reading_daily AS daily JOIN public.terminal ON terminal.id = daily.terminal_id
WHERE terminal.division = ANY ((SELECT city.divisions())::int[]);

CREATE VIEW city.event WITH (security_barrier) AS
SELECT event.* FROM public.event JOIN public.terminal ON terminal.id = event.terminal_id
WHERE terminal.division = ANY ((SELECT city.divisions())::int[]);

CREATE VIEW city.alias WITH (security_barrier) AS
SELECT alias.* FROM public.alias JOIN public.terminal ON terminal.id = alias.terminal_id
WHERE terminal.division = ANY ((SELECT city.divisions())::int[]);

GRANT SELECT ON ALL TABLES IN SCHEMA city TO ganzhi_city;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA city TO ganzhi_city

-- name: as_before
RESET ROLE
