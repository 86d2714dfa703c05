-- A foreign key into another schema, to a table of the same name as one here.
-- NOTE table purchase, foreign key purchase_far_fkey: gets no relation, because there is no entity of elsewhere.shop
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.shop (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE shop (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE purchase (id bigint PRIMARY KEY, far bigint NOT NULL REFERENCES elsewhere.shop, near bigint REFERENCES shop);
INSERT INTO elsewhere.shop VALUES (1, 'far');
INSERT INTO shop VALUES (1, 'near'), (2, 'empty');
INSERT INTO purchase VALUES (1, 1, 1), (2, 1, NULL);
