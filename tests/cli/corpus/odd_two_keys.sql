-- Several keys to one table, keys both ways between two tables, and keys of a table to itself.
CREATE TABLE person (id int PRIMARY KEY, team_id int, mother_id int REFERENCES person, father int REFERENCES person);
CREATE TABLE team (id int PRIMARY KEY, captain_id int REFERENCES person, captain text);
ALTER TABLE person ADD FOREIGN KEY (team_id) REFERENCES team;
CREATE TABLE match (id int PRIMARY KEY, home_id int NOT NULL REFERENCES team, away_id int NOT NULL REFERENCES team, referee_id int UNIQUE REFERENCES person);
CREATE TABLE category (id int PRIMARY KEY, parent_id int REFERENCES category ON DELETE SET NULL);
CREATE TABLE profile (person_id int PRIMARY KEY REFERENCES person, updated_by int REFERENCES person);
INSERT INTO person VALUES (1, NULL, NULL, NULL), (2, NULL, 1, NULL), (3, NULL, 1, 2);
INSERT INTO team VALUES (1, 1, 'a'), (2, NULL, NULL);
UPDATE person SET team_id = 1 WHERE id < 3;
INSERT INTO match VALUES (1, 1, 2, 3), (2, 2, 1, NULL);
INSERT INTO category VALUES (1, NULL), (2, 1), (3, 1), (4, 2);
INSERT INTO profile VALUES (1, 2), (2, NULL);
