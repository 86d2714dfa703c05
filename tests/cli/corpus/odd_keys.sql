-- Keys that SeaORM cannot compare, keys of other types than what they refer to, keys to something unique, wide keys.
-- NOTE table int_ref, foreign key int_ref_big_id_fkey: gets no relation, because it compares integer with bigint, which are of different types in Rust
-- NOTE table nick_ref, foreign key nick_ref_nick_fkey: gets no relation, because SeaORM compares keys in Rust, and different texts of citext are equal
-- NOTE table wide gets no entity, because its primary key has 13 columns, and SeaORM takes at most 12
-- NOTE table keyless gets no entity, because it has no primary key, which SeaORM needs
-- NOTE table to_keyless, foreign key to_keyless_code_fkey: gets no relation, because there is no entity of public.keyless
CREATE EXTENSION citext;
CREATE TABLE big (id bigint PRIMARY KEY, code text NOT NULL UNIQUE, at timestamptz UNIQUE);
CREATE TABLE int_ref (id int PRIMARY KEY, big_id int NOT NULL REFERENCES big);
CREATE TABLE code_ref (id int PRIMARY KEY, code varchar(9) NOT NULL REFERENCES big (code), at timestamptz REFERENCES big (at));
CREATE TABLE nick (nick citext PRIMARY KEY);
CREATE TABLE nick_ref (id int PRIMARY KEY, nick citext NOT NULL REFERENCES nick);
CREATE TABLE wide (a int, b int, c int, d int, e int, f int, g int, h int, i int, j int, k int, l int, m int, PRIMARY KEY (a, b, c, d, e, f, g, h, i, j, k, l, m));
CREATE TABLE keyless (code int UNIQUE);
CREATE TABLE to_keyless (id int PRIMARY KEY, code int REFERENCES keyless (code));
CREATE TABLE by_float (f float8, r real, b bool, PRIMARY KEY (f, r, b));
CREATE TABLE by_bool (b bool PRIMARY KEY); CREATE TABLE by_bytes (b bytea PRIMARY KEY); CREATE TABLE by_json (j jsonb PRIMARY KEY);
CREATE TABLE by_date (d date PRIMARY KEY); CREATE TABLE by_time (t timestamptz PRIMARY KEY); CREATE TABLE by_number (n numeric PRIMARY KEY);
CREATE TABLE by_address (a inet PRIMARY KEY); CREATE TABLE by_interval (i interval PRIMARY KEY); CREATE TABLE by_array (a int[] PRIMARY KEY);
CREATE TYPE color AS ENUM ('red', 'green');
CREATE TABLE by_enum (c color PRIMARY KEY);
CREATE TABLE enum_ref (id int PRIMARY KEY, c color REFERENCES by_enum, addr inet REFERENCES by_address);
INSERT INTO big VALUES (1, 'a', '2026-01-01 00:00+00'), (2, 'b', NULL);
INSERT INTO int_ref VALUES (1, 1); INSERT INTO code_ref VALUES (1, 'a', NULL), (2, 'a', '2026-01-01 00:00+00');
INSERT INTO nick VALUES ('Ada'); INSERT INTO nick_ref VALUES (1, 'ada'); INSERT INTO wide VALUES (1,1,1,1,1,1,1,1,1,1,1,1,1);
INSERT INTO keyless VALUES (1); INSERT INTO to_keyless VALUES (1, 1); INSERT INTO by_float VALUES (1.5, 2.5, true); INSERT INTO by_bool VALUES (true);
INSERT INTO by_bytes VALUES ('\x00'); INSERT INTO by_json VALUES ('{"a": 1}'); INSERT INTO by_date VALUES ('2026-01-01'); INSERT INTO by_time VALUES ('2026-01-01 00:00+00');
INSERT INTO by_number VALUES (1.5); INSERT INTO by_address VALUES ('10.0.0.1'); INSERT INTO by_interval VALUES ('1 day'); INSERT INTO by_array VALUES ('{1,2}');
INSERT INTO by_enum VALUES ('red'); INSERT INTO enum_ref VALUES (1, 'red', '10.0.0.1'), (2, NULL, NULL);
-- A key that is filled up with blanks.
CREATE TABLE warehouse (code char(4) PRIMARY KEY, backup char(4) REFERENCES warehouse);
CREATE TABLE shelf (warehouse char(4) NOT NULL REFERENCES warehouse, row char(1) NOT NULL, PRIMARY KEY (warehouse, row));
INSERT INTO warehouse VALUES ('A', NULL), ('BCDE', 'A');
INSERT INTO shelf VALUES ('A', 'x'), ('A', 'y'), ('BCDE', 'x');
