-- Rows that are written again and again: with room left on their page the new version stays beside the old one, which needs no new
-- entry in an index. Pages written before keep their shape until their rows move.
ALTER TABLE consumer_state SET (fillfactor = 50);
ALTER TABLE session SET (fillfactor = 70);
