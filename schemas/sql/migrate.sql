-- What `ganzhi migrate` itself needs.

-- name: lock
SELECT pg_advisory_lock(hashtext('ganzhi.migrate'))

-- name: unlock
SELECT pg_advisory_unlock(hashtext('ganzhi.migrate'))

-- name: version_table
CREATE TABLE IF NOT EXISTS schema_version (
    version    int PRIMARY KEY,
    name       text NOT NULL,
    storage    text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)

-- name: applied
SELECT version, storage FROM schema_version ORDER BY version

-- name: record
INSERT INTO schema_version (version, name, storage) VALUES (%s, %s, %s)

-- name: offers_timescale
-- Whether it is loaded shows in its settings: shared_preload_libraries is not for everybody to read.
SELECT installed_version, default_version,
       EXISTS (SELECT FROM pg_settings WHERE name = 'timescaledb.max_background_workers') AS loaded
FROM pg_available_extensions WHERE name = 'timescaledb'

-- name: has_version_table
SELECT to_regclass('public.schema_version') IS NOT NULL

-- name: enable_timescale
CREATE EXTENSION IF NOT EXISTS timescaledb

-- name: lock_timeout
SELECT set_config('lock_timeout', %s, true)

-- name: in_the_way
-- The transaction that began first among those that hold our tables; who it is shows to its own role and monitors.
SELECT concat('in the way may be process ', pid, ' (' || nullif(application_name, '') || ')',
              ', in a transaction since ' || to_char(xact_start, 'YYYY-MM-DD HH24:MI:SS TZ'))
FROM pg_stat_activity AS activity
WHERE pid <> pg_backend_pid() AND EXISTS (
    SELECT FROM pg_locks JOIN pg_class ON pg_class.oid = relation
    WHERE pg_locks.pid = activity.pid AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND relnamespace = 'public'::regnamespace)
ORDER BY xact_start, pid LIMIT 1
