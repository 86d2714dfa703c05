-- Computed columns in keys and foreign keys.
-- NOTE table place, column code: do not set it, because the server computes it (GENERATED ALWAYS AS); it is part of a key
-- NOTE table visit, column place_code: do not set it, because the server computes it (GENERATED ALWAYS AS); it is part of a key
-- NOTE table visit, column doubled: left out, because the server computes it (GENERATED ALWAYS AS)
CREATE TABLE place (country text NOT NULL, town text NOT NULL, code text GENERATED ALWAYS AS (country || '-' || town) STORED PRIMARY KEY);
CREATE TABLE visit (id int PRIMARY KEY, country text NOT NULL, town text NOT NULL,
  place_code text GENERATED ALWAYS AS (country || '-' || town) STORED REFERENCES place, doubled int GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO place VALUES ('de', 'Munich'), ('fr', 'Lyon');
INSERT INTO visit VALUES (1, 'de', 'Munich'), (2, 'de', 'Munich');
