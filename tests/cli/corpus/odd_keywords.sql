-- Keywords of every edition as tables, columns and values.
CREATE TYPE mode AS ENUM ('super', 'gen', 'type', 'crate', 'async', 'Ok', 'none', 'some');
CREATE TABLE super (id int PRIMARY KEY, self text NOT NULL, super text NOT NULL, crate text NOT NULL);
CREATE TABLE self (id int PRIMARY KEY, super_id int NOT NULL REFERENCES super);
CREATE TABLE crate (id int PRIMARY KEY, "Self" text NOT NULL);
CREATE TABLE gen (id int PRIMARY KEY, gen text NOT NULL UNIQUE, type text NOT NULL, async int NOT NULL, "try" int NOT NULL, mode mode NOT NULL);
CREATE TABLE type (id int PRIMARY KEY, gen_id int NOT NULL REFERENCES gen, fn_id int, UNIQUE (gen_id, fn_id));
CREATE TABLE fn (id int PRIMARY KEY, type int NOT NULL REFERENCES type, match int NOT NULL REFERENCES type);
CREATE TABLE "struct" (id int PRIMARY KEY, type int UNIQUE REFERENCES type);
INSERT INTO super VALUES (1, 'a', 'b', 'c');
INSERT INTO self VALUES (1, 1), (2, 1);
INSERT INTO crate VALUES (1, 's');
INSERT INTO gen VALUES (1, 'g', 't', 1, 2, 'gen'), (2, 'h', 't', 1, 2, 'super');
INSERT INTO type VALUES (1, 1, NULL), (2, 2, 1);
INSERT INTO fn VALUES (1, 1, 2);
INSERT INTO struct VALUES (1, 1), (2, NULL);
