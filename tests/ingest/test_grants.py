"""Who may do what with everything in schema `public`, line by line: what is new has to be decided here too."""

from ingest import roles
from ingest.connection import connect

NOBODY = ""
"""But the owner."""
ANYBODY = "PUBLIC: EXECUTE"
"""With the caller's own rights, and it only reads."""
DECIDED = {
    "alias": "observer: SELECT; reader: SELECT; writer: INSERT, SELECT",
    "audit": "observer: INSERT, SELECT; reader: SELECT; writer: INSERT",
    "cell": "city: SELECT; observer: SELECT; reader: SELECT; writer: SELECT",
    "coverage": "observer: DELETE, INSERT, SELECT, UPDATE; reader: SELECT",
    "coverage_gap": "observer: DELETE, INSERT, SELECT, UPDATE; reader: SELECT",
    "coverage_gap_id_seq": NOBODY,
    "declared": "observer: SELECT; reader: SELECT",
    "division": "city: SELECT; observer: SELECT; reader: SELECT; writer: SELECT",
    "drop_raw(timestamp with time zone)": NOBODY,
    "event": "observer: SELECT; reader: SELECT; writer: INSERT",
    "gateway": (
        "observer: INSERT, SELECT, UPDATE (division state first_seen last_seen id said_offline_at firmware); "
        "reader: SELECT; "
        "writer: SELECT"
    ),
    "gateway_sequence": "writer: INSERT, SELECT, UPDATE",
    "heard": "observer: DELETE, SELECT; writer: INSERT, SELECT (id heard_at)",
    "heard_id_seq": NOBODY,
    "indicator": "observer: DELETE, INSERT, SELECT, UPDATE; reader: SELECT",
    "ledger": "observer: SELECT; writer: INSERT, SELECT",
    "ledger_client": "observer: SELECT; writer: INSERT, SELECT, UPDATE",
    "ledger_timeless": "observer: SELECT; writer: INSERT, SELECT, UPDATE",
    "maintenance": "observer: SELECT",
    "maintenance_span": "observer: SELECT",
    "metric": "city: SELECT; observer: SELECT; reader: SELECT; writer: INSERT, SELECT",
    "note_changed_terminals()": NOBODY,
    "note_removed_terminals()": NOBODY,
    "plan": "observer: SELECT; reader: SELECT",
    "planned_maintenance": "observer: DELETE, INSERT, SELECT, UPDATE (until); reader: SELECT",
    "planned_maintenance_id_seq": NOBODY,
    "presence": "observer: DELETE, INSERT, SELECT, UPDATE",
    "put_alias(text,text,text,timestamp with time zone,timestamp with time zone)": "writer: EXECUTE",
    "quality": "observer: DELETE, INSERT, SELECT, UPDATE; reader: SELECT",
    "raise_registry_version()": NOBODY,
    "reading": "observer: SELECT; reader: SELECT; writer: INSERT",
    "reading_daily": "observer: SELECT; reader: SELECT",
    "reading_detail": "observer: SELECT; reader: SELECT",
    "reading_hourly": "observer: SELECT; reader: SELECT",
    "readings_since()": ANYBODY,
    "registry_change": "observer: DELETE, SELECT",
    "registry_change_id_seq": NOBODY,
    "registry_version": "observer: SELECT; writer: SELECT",
    "rejection": (
        "observer: SELECT; "
        "reader: SELECT; "
        "writer: INSERT, SELECT, UPDATE (reason rejected detail resolved_at)"
    ),
    "rejection_id_seq": NOBODY,
    "schema_version": "city: SELECT; observer: SELECT; reader: SELECT; writer: SELECT",
    "sparkplug_birth": "writer: INSERT, SELECT, UPDATE",
    "sparkplug_request": "writer: INSERT, SELECT, UPDATE",
    "terminal": (
        "observer: SELECT, UPDATE (first_heard_at said_offline_at); "
        "reader: SELECT; "
        "writer: INSERT, SELECT, UPDATE (gateway state retired_on)"
    ),
    "terminal_gateway": "reader: SELECT; writer: INSERT, SELECT",
    "terminal_last(text,integer)": ANYBODY,
    "terminal_readings(text,timestamp with time zone,timestamp with time zone)": ANYBODY,
    "terminal_span(text)": ANYBODY,
}
"""By table, view, sequence and function; columns in brackets where a right is on these alone."""
DECIDED_THERE = {"timescale": {}, "postgres": {"ensure_days(regclass,date[])": "writer: EXECUTE"}}
FOUND = """
WITH thing AS (
    SELECT oid AS id, 'pg_class'::regclass AS catalog, relname::text AS name, relowner AS owner, relacl AS acl,
           CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char" AS kind
    FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S') AND NOT relispartition
    UNION ALL
    SELECT oid, 'pg_proc'::regclass, oid::regprocedure::text, proowner, proacl, 'f'
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
), granted AS (
    SELECT id, catalog, grantee, privilege_type, NULL::text AS columns
    FROM thing, aclexplode(coalesce(acl, acldefault(kind, owner))) WHERE grantee <> owner
    UNION ALL
    SELECT attrelid, 'pg_class'::regclass, grantee, privilege_type, string_agg(attname, ' ' ORDER BY attnum)
    FROM pg_attribute, aclexplode(attacl) GROUP BY 1, 3, 4
), spoken AS (
    SELECT id, catalog, coalesce(replace(rolname, 'ganzhi_', ''), 'PUBLIC') AS role,
           string_agg(privilege_type || coalesce(' (' || columns || ')', ''), ', ' ORDER BY privilege_type) AS rights
    FROM granted LEFT JOIN pg_roles ON pg_roles.oid = grantee GROUP BY 1, 2, 3
)
SELECT name, coalesce(string_agg(role || ': ' || rights, '; ' ORDER BY role), '')
FROM thing LEFT JOIN spoken USING (id, catalog)
WHERE NOT EXISTS (SELECT FROM pg_depend AS d
                  WHERE d.classid = thing.catalog AND d.objid = thing.id AND d.deptype = 'e')
GROUP BY id, name
"""


def test_every_table_and_function_has_its_decision(database):
    """What is in the database and who may use it are exactly what the table above says."""
    with connect(database.url) as conn:
        roles.make(conn, None)
    found = dict(database.rows(FOUND))
    decided = DECIDED | DECIDED_THERE[database.storage]
    assert found.keys() ^ decided.keys() == set(), "decide who may use it: schemas/sql/roles.sql, then here"
    assert found == decided
