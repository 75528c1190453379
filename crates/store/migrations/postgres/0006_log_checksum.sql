-- The log is on Kafka here, which has checksums of its own: the number is that of the migration of SQLite.
SELECT 1;
