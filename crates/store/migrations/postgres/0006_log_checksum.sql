-- CRC-32 over a record of the log, so that a byte that changed on the disk is noticed; absent on records of before.
ALTER TABLE log ADD COLUMN checksum BIGINT;
