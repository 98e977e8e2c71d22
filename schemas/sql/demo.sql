-- What `ganzhi demo` asks its database.

-- name: readings
SELECT count(*) FROM reading

-- name: end_sessions
UPDATE ledger_client SET ended_at = now()

-- name: database_exists
SELECT 1 FROM pg_database WHERE datname = 'ganzhi'

-- name: create_database
CREATE DATABASE ganzhi
