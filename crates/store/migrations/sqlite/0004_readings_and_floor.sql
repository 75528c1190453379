-- Samples of meters as stations sent them. Registers, power and state of charge are absent where the station did not tell them.
CREATE TABLE reading (
    evse TEXT NOT NULL,
    sampled_at BIGINT NOT NULL,
    session TEXT,
    power_watts BIGINT,
    import_register_joules BIGINT,
    export_register_joules BIGINT,
    soc_ratio DOUBLE PRECISION,
    PRIMARY KEY (evse, sampled_at)
);
CREATE INDEX reading_sampled_at ON reading (sampled_at);

-- Oldest release that may use these tables, by the last migration it knows. A migration that only adds leaves it alone, so that
-- the release before still serves; one that takes something away raises it.
CREATE TABLE schema_floor (
    lowest BIGINT NOT NULL PRIMARY KEY
);
INSERT INTO schema_floor (lowest) VALUES (1);
