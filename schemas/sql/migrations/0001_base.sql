-- Who is out there, what is measured, and what was refused; the same on every storage.

CREATE TABLE division (
    code    int PRIMARY KEY,
    name_zh text NOT NULL,
    name_en text NOT NULL,
    level   text NOT NULL CHECK (level IN ('province', 'city', 'county', 'zone')),
    parent  int
);

-- Ids are dense and stable: a reading carries one, so rollups by cell need no join.
CREATE TABLE cell (
    id       smallint PRIMARY KEY,
    division int NOT NULL REFERENCES division,
    domain   text NOT NULL,
    UNIQUE (division, domain)
);

CREATE TABLE metric (
    id            smallint PRIMARY KEY,
    name          text NOT NULL UNIQUE,
    unit          text NOT NULL,
    hard_low      float8,
    hard_high     float8,
    soft_low      float8,
    soft_high     float8,
    catalogued    bool NOT NULL DEFAULT false,
    registered_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE gateway (
    name       text PRIMARY KEY,
    division   int,
    kind       text,
    owner      text,
    contact    text,
    utc_offset interval,
    state      text,
    first_seen timestamptz,
    last_seen  timestamptz
);

-- Ids are max + 1 under an advisory lock: a sequence burns values on conflict, and bitmaps want them dense.
CREATE TABLE terminal (
    id              int PRIMARY KEY,
    code            text NOT NULL UNIQUE,
    scheme          text NOT NULL,
    division        int NOT NULL,
    domain          text NOT NULL DEFAULT 'other',
    profile         text,
    network         text,
    gateway         text,
    site            text,
    project         text,
    owner           text,
    state           text NOT NULL CHECK (state IN ('planned', 'installed', 'retired', 'discovered')),
    report_every    interval,
    installed_on    date,
    smart           bool,
    key_area        bool,
    lon             float8,
    lat             float8,
    registered_at   timestamptz NOT NULL DEFAULT now(),
    first_heard_at  timestamptz,
    said_offline_at timestamptz,
    retired_on      date
);

CREATE TABLE alias (
    scheme      text NOT NULL,
    value       text NOT NULL,
    terminal_id int NOT NULL REFERENCES terminal,
    valid_from  timestamptz NOT NULL DEFAULT now(),
    valid_to    timestamptz,
    PRIMARY KEY (scheme, value, valid_from)
);

CREATE TABLE rejection (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at  timestamptz NOT NULL,
    topic        text NOT NULL,
    division     int,
    gateway      text,
    reason       text NOT NULL,
    rejected     int NOT NULL,
    total        int NOT NULL,
    detail       jsonb NOT NULL,
    content_type text,
    payload      bytea NOT NULL,
    resolved_at  timestamptz
);
CREATE INDEX rejection_open ON rejection (received_at) WHERE resolved_at IS NULL;

-- What makes a redelivery count once. Not partitioned by time: a unique key would have to hold the time,
-- and duplicates would pass at the borders. Columns in this order pack into 48 bytes a row.
CREATE TABLE ledger (
    key     uuid PRIMARY KEY,
    seen_at timestamptz NOT NULL,
    client  smallint NOT NULL
);

-- Payloads without a time of their own may rightly repeat; a redelivery is known by the packet id it first
-- came with. One row a packet id, so that it is the last message under that id which is remembered.
CREATE TABLE ledger_timeless (
    client    smallint NOT NULL,
    packet_id int NOT NULL,
    part      int NOT NULL,
    digest    uuid NOT NULL,
    nonce     uuid NOT NULL,
    seen_at   timestamptz NOT NULL,
    PRIMARY KEY (client, packet_id, part)
);

CREATE TABLE ledger_client (
    id           smallint PRIMARY KEY,
    name         text NOT NULL UNIQUE,
    committed_at timestamptz
);

-- Terminals heard in a batch: a Roaring bitmap of terminal ids, portable format.
CREATE TABLE heard (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    heard_at  timestamptz NOT NULL,
    terminals bytea NOT NULL
);
