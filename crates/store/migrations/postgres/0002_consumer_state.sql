-- What a consumer of the log needs to resume, saved in the transaction that commits its offset. A body is replaced often: room in
-- each page lets the new version stay beside the old one, without a new entry in the index.
CREATE TABLE consumer_state (
    group_name TEXT COLLATE "C" NOT NULL,
    state_key TEXT COLLATE "C" NOT NULL,
    body TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (group_name, state_key)
) WITH (fillfactor = 60);
