-- SQLite replaces rows in place: the number is that of the migration of PostgreSQL.
SELECT 1;
