-- The tables of migrations/sqlite in PostgreSQL's words. Instants: microseconds since 1970-01-01T00:00Z. Booleans: 0 or 1. Texts
-- compare byte by byte, as in SQLite and in the programs. The tables of the embedded log are not here: it lives in SQLite.

CREATE TABLE site (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL,
    import_limit_watts BIGINT NOT NULL,
    export_limit_watts BIGINT NOT NULL
);

CREATE TABLE evse (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    station TEXT COLLATE "C" NOT NULL,
    site TEXT COLLATE "C" NOT NULL,
    class TEXT COLLATE "C" NOT NULL,
    protocol TEXT COLLATE "C" NOT NULL,
    max_charge_watts BIGINT NOT NULL,
    max_discharge_watts BIGINT NOT NULL,
    charge_efficiency DOUBLE PRECISION NOT NULL,
    discharge_efficiency DOUBLE PRECISION NOT NULL
);

CREATE TABLE session (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    evse TEXT COLLATE "C" NOT NULL,
    site TEXT COLLATE "C" NOT NULL,
    vehicle TEXT COLLATE "C",
    plugged_in BIGINT NOT NULL,
    unplugged BIGINT,
    needs TEXT COLLATE "C",
    added_joules BIGINT,
    soc_ratio DOUBLE PRECISION
);
CREATE INDEX session_plugged_in ON session (plugged_in);

-- Partitions are months of UTC, made ahead by `shoal migrate` and by services.
CREATE TABLE meter_interval (
    evse TEXT COLLATE "C" NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    site TEXT COLLATE "C" NOT NULL,
    import_joules BIGINT NOT NULL,
    export_joules BIGINT NOT NULL,
    covered_seconds BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (evse, starts_at)
) PARTITION BY RANGE (starts_at);
-- Rows come about in the order of time: a summary of each block range finds a span at a hundredth of a tree's cost.
CREATE INDEX meter_interval_starts_at ON meter_interval USING brin (starts_at) WITH (pages_per_range = 32, autosummarize = on);

CREATE TABLE bid (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    area TEXT COLLATE "C" NOT NULL,
    product TEXT COLLATE "C" NOT NULL,
    direction TEXT COLLATE "C" NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    volume_watts BIGINT NOT NULL,
    price TEXT COLLATE "C",
    currency TEXT COLLATE "C",
    divisible BIGINT NOT NULL,
    gate_closes BIGINT NOT NULL,
    built_at BIGINT NOT NULL,
    delivery_probability DOUBLE PRECISION NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL
);
CREATE INDEX bid_starts_at ON bid (starts_at);

CREATE TABLE award (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    bid TEXT COLLATE "C" NOT NULL,
    area TEXT COLLATE "C" NOT NULL,
    product TEXT COLLATE "C" NOT NULL,
    direction TEXT COLLATE "C" NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    volume_watts BIGINT NOT NULL,
    price TEXT COLLATE "C" NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    awarded_at BIGINT NOT NULL
);
CREATE INDEX award_starts_at ON award (starts_at);

CREATE TABLE clearing (
    area TEXT COLLATE "C" NOT NULL,
    product TEXT COLLATE "C" NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    price TEXT COLLATE "C" NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    published_at BIGINT NOT NULL,
    PRIMARY KEY (area, product, starts_at)
);
CREATE INDEX clearing_starts_at ON clearing (starts_at);

CREATE TABLE statement (
    account TEXT COLLATE "C" NOT NULL,
    area TEXT COLLATE "C" NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    lines TEXT COLLATE "C" NOT NULL,
    total TEXT COLLATE "C" NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (account, area, starts_at, version)
);
CREATE INDEX statement_starts_at ON statement (starts_at);

CREATE TABLE plan (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    area TEXT COLLATE "C" NOT NULL,
    solved_at BIGINT NOT NULL,
    body TEXT COLLATE "C" NOT NULL
);
CREATE INDEX plan_solved_at ON plan (area, solved_at);

-- Schedules of the newest plans only: they are megabytes, and an old plan's are on the log.
CREATE TABLE plan_schedules (
    plan TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    area TEXT COLLATE "C" NOT NULL,
    solved_at BIGINT NOT NULL,
    body TEXT COLLATE "C" NOT NULL
);

CREATE TABLE forecast (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    series TEXT COLLATE "C" NOT NULL,
    model TEXT COLLATE "C" NOT NULL,
    issued_at BIGINT NOT NULL,
    data_until BIGINT NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    body TEXT COLLATE "C" NOT NULL
);
CREATE INDEX forecast_starts_at ON forecast (starts_at);
