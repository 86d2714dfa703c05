-- Columns called as the relation of their table, or as what a relation would be called next.
CREATE TABLE author (id int PRIMARY KEY, books text NOT NULL, book text NOT NULL);
CREATE TABLE book (id int PRIMARY KEY, author int NOT NULL REFERENCES author, author_relation text NOT NULL);
CREATE TABLE review (id int PRIMARY KEY, book int NOT NULL UNIQUE REFERENCES book, relation text NOT NULL, entity text NOT NULL, model text NOT NULL, "column" text NOT NULL, primary_key text NOT NULL);
INSERT INTO author VALUES (1, 'x', 'y'), (2, 'x', 'y');
INSERT INTO book VALUES (1, 1, 'r'), (2, 1, 'r');
INSERT INTO review VALUES (1, 1, 'a', 'b', 'c', 'd', 'e');
