-- Who holds an office that one process at a time may hold. The term counts the holders; a holder counts its beats while it lives.
CREATE TABLE lease (
    office TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    holder TEXT COLLATE "C" NOT NULL,
    address TEXT COLLATE "C" NOT NULL,
    term BIGINT NOT NULL,
    beat BIGINT NOT NULL
);
