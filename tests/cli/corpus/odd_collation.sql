-- A key whose collation takes different texts for equal.
-- NOTE table word_ref, foreign key word_ref_word_fkey: gets no relation, because SeaORM compares keys in Rust, and its collation takes different texts for equal
CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE word (word text COLLATE loose PRIMARY KEY);
CREATE TABLE word_ref (id int PRIMARY KEY, word text COLLATE loose NOT NULL REFERENCES word);
INSERT INTO word VALUES ('Word');
INSERT INTO word_ref VALUES (1, 'word');
