-- What a consumer of the log needs to resume, saved in the transaction that commits its offset.
CREATE TABLE consumer_state (
    group_name TEXT NOT NULL,
    state_key TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (group_name, state_key)
);
