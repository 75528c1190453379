-- Who holds an office that one process at a time may hold. The term counts the holders; a holder counts its beats while it lives.
CREATE TABLE lease (
    office TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    address TEXT NOT NULL,
    term BIGINT NOT NULL,
    beat BIGINT NOT NULL
);
