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
SELECT installed_version, default_version FROM pg_available_extensions WHERE name = 'timescaledb'

-- name: has_version_table
SELECT to_regclass('public.schema_version') IS NOT NULL

-- name: enable_timescale
CREATE EXTENSION IF NOT EXISTS timescaledb
