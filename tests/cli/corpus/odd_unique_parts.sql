-- Unique indexes of which only a part, or none, is a column: expressions, INCLUDE, WHERE.
CREATE TABLE shop (id bigint PRIMARY KEY);
CREATE TABLE visit (
  id bigint PRIMARY KEY, shop_id bigint NOT NULL REFERENCES shop, day date NOT NULL, email text NOT NULL, note text);
CREATE UNIQUE INDEX visit_day ON visit (day, (lower(email))) INCLUDE (shop_id);
CREATE UNIQUE INDEX visit_email ON visit (email) INCLUDE (shop_id);
CREATE UNIQUE INDEX visit_one ON visit (shop_id) WHERE note IS NOT NULL;
CREATE UNIQUE INDEX "visit weird-name!" ON visit (shop_id, day, email);
CREATE TABLE permit (id bigint PRIMARY KEY, shop_id bigint NOT NULL UNIQUE REFERENCES shop);
INSERT INTO shop VALUES (1), (2), (3);
INSERT INTO visit VALUES (1, 1, '2026-01-01', 'a@b', NULL), (2, 1, '2026-01-02', 'b@b', 'x'), (3, 1, '2026-01-03', 'c@b', NULL);
INSERT INTO permit VALUES (1, 2);
