-- One set of SQL for SQLite and PostgreSQL. Instants: microseconds since 1970-01-01T00:00Z. Booleans: 0 or 1.

CREATE TABLE log (
    topic TEXT NOT NULL,
    log_offset BIGINT NOT NULL,
    record_key TEXT NOT NULL,
    payload BYTEA NOT NULL,
    appended_at BIGINT NOT NULL,
    PRIMARY KEY (topic, log_offset)
);

-- Newest offset ever given out: retention may delete the record that had it.
CREATE TABLE log_topic (
    topic TEXT NOT NULL PRIMARY KEY,
    newest BIGINT NOT NULL
);

CREATE TABLE log_group (
    topic TEXT NOT NULL,
    group_name TEXT NOT NULL,
    committed BIGINT NOT NULL,
    PRIMARY KEY (topic, group_name)
);

CREATE TABLE site (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    import_limit_watts BIGINT NOT NULL,
    export_limit_watts BIGINT NOT NULL
);

CREATE TABLE evse (
    id TEXT NOT NULL PRIMARY KEY,
    station TEXT NOT NULL,
    site TEXT NOT NULL,
    class TEXT NOT NULL,
    protocol TEXT NOT NULL,
    max_charge_watts BIGINT NOT NULL,
    max_discharge_watts BIGINT NOT NULL,
    charge_efficiency DOUBLE PRECISION NOT NULL,
    discharge_efficiency DOUBLE PRECISION NOT NULL
);

CREATE TABLE session (
    id TEXT NOT NULL PRIMARY KEY,
    evse TEXT NOT NULL,
    site TEXT NOT NULL,
    vehicle TEXT,
    plugged_in BIGINT NOT NULL,
    unplugged BIGINT,
    needs TEXT,
    added_joules BIGINT,
    soc_ratio DOUBLE PRECISION
);
CREATE INDEX session_plugged_in ON session (plugged_in);

CREATE TABLE meter_interval (
    evse TEXT NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    site TEXT NOT NULL,
    import_joules BIGINT NOT NULL,
    export_joules BIGINT NOT NULL,
    covered_seconds BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (evse, starts_at)
);
CREATE INDEX meter_interval_starts_at ON meter_interval (starts_at);

CREATE TABLE bid (
    id TEXT NOT NULL PRIMARY KEY,
    area TEXT NOT NULL,
    product TEXT NOT NULL,
    direction TEXT NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    volume_watts BIGINT NOT NULL,
    price TEXT,
    currency TEXT,
    divisible BIGINT NOT NULL,
    gate_closes BIGINT NOT NULL,
    built_at BIGINT NOT NULL,
    delivery_probability DOUBLE PRECISION NOT NULL,
    reason TEXT NOT NULL,
    status TEXT NOT NULL
);
CREATE INDEX bid_starts_at ON bid (starts_at);

CREATE TABLE award (
    id TEXT NOT NULL PRIMARY KEY,
    bid TEXT NOT NULL,
    area TEXT NOT NULL,
    product TEXT NOT NULL,
    direction TEXT NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    volume_watts BIGINT NOT NULL,
    price TEXT NOT NULL,
    currency TEXT NOT NULL,
    awarded_at BIGINT NOT NULL
);
CREATE INDEX award_starts_at ON award (starts_at);

CREATE TABLE clearing (
    area TEXT NOT NULL,
    product TEXT NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    price TEXT NOT NULL,
    currency TEXT NOT NULL,
    published_at BIGINT NOT NULL,
    PRIMARY KEY (area, product, starts_at)
);
CREATE INDEX clearing_starts_at ON clearing (starts_at);

CREATE TABLE statement (
    account TEXT NOT NULL,
    area TEXT NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    lines TEXT NOT NULL,
    total TEXT NOT NULL,
    currency TEXT NOT NULL,
    PRIMARY KEY (account, area, starts_at, version)
);
CREATE INDEX statement_starts_at ON statement (starts_at);

CREATE TABLE plan (
    id TEXT NOT NULL PRIMARY KEY,
    area TEXT NOT NULL,
    solved_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX plan_solved_at ON plan (area, solved_at);

-- Schedules of the newest plans only: they are megabytes, and an old plan's are on the log.
CREATE TABLE plan_schedules (
    plan TEXT NOT NULL PRIMARY KEY,
    area TEXT NOT NULL,
    solved_at BIGINT NOT NULL,
    body TEXT NOT NULL
);

CREATE TABLE forecast (
    id TEXT NOT NULL PRIMARY KEY,
    series TEXT NOT NULL,
    model TEXT NOT NULL,
    issued_at BIGINT NOT NULL,
    data_until BIGINT NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX forecast_starts_at ON forecast (starts_at);
