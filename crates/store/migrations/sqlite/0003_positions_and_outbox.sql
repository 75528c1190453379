-- How far a group has handled a topic, per partition. The epoch counts who holds the partition: a commit of an earlier holder is
-- refused with everything that it was to be stored with.
CREATE TABLE log_position (
    topic TEXT NOT NULL,
    partition_id BIGINT NOT NULL,
    group_name TEXT NOT NULL,
    committed BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (topic, partition_id, group_name)
);
INSERT INTO log_position (topic, partition_id, group_name, committed, epoch)
SELECT topic, 0, group_name, committed, 0 FROM log_group;
DROP TABLE log_group;

-- Records that were decided together with rows and are not on the log yet, by the process that decided them.
CREATE TABLE outbox (
    source TEXT NOT NULL,
    id BIGINT NOT NULL,
    topic TEXT NOT NULL,
    record_key TEXT NOT NULL,
    payload BYTEA NOT NULL,
    written_at BIGINT NOT NULL,
    PRIMARY KEY (source, id)
);
