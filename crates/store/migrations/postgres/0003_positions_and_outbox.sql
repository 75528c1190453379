-- How far a group has handled a topic, per partition. The epoch counts who holds the partition: a commit of an earlier holder is
-- refused with everything that it was to be stored with.
CREATE TABLE log_position (
    topic TEXT COLLATE "C" NOT NULL,
    partition_id BIGINT NOT NULL,
    group_name TEXT COLLATE "C" NOT NULL,
    committed BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (topic, partition_id, group_name)
) WITH (fillfactor = 60);

-- Records that were decided together with rows and are not on the log yet, by the process that decided them. Every row is deleted
-- soon: dead ones are swept away after a fixed number, however small the table.
CREATE TABLE outbox (
    source TEXT COLLATE "C" NOT NULL,
    id BIGINT NOT NULL,
    topic TEXT COLLATE "C" NOT NULL,
    record_key TEXT COLLATE "C" NOT NULL,
    payload BYTEA NOT NULL,
    written_at BIGINT NOT NULL,
    PRIMARY KEY (source, id)
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 10000);
