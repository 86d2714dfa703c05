-- Junction tables: alone, with a third foreign key, of a table with itself, two between the same tables, and foreign keys
-- beside one.
-- A person's keys to buildings are named like a table that is joined to persons by a junction.
-- NOTE table rank_duty, column grade: gives duty and rank no many-to-many relation, because SeaORM cannot read a key of type grade in a junction table
CREATE TABLE building (id int PRIMARY KEY);
CREATE TABLE person (id int PRIMARY KEY, name text NOT NULL, club_id int REFERENCES building, home_id int REFERENCES building);
CREATE TABLE club (id int PRIMARY KEY, note text);
CREATE TABLE topic (id int PRIMARY KEY);
CREATE TABLE post (id int PRIMARY KEY);
CREATE TABLE guild (id int PRIMARY KEY, founder_id int REFERENCES person);
CREATE TABLE guild_member (guild_id int REFERENCES guild, person_id int REFERENCES person, PRIMARY KEY (guild_id, person_id));
CREATE TABLE member (club_id int REFERENCES club, person_id int REFERENCES person, PRIMARY KEY (club_id, person_id));
CREATE TABLE post_topic (post_id int REFERENCES post, topic_id int REFERENCES topic, added_by int REFERENCES person,
  at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (post_id, topic_id));
CREATE TABLE follows (person_id int REFERENCES person, followed_id int REFERENCES person, PRIMARY KEY (person_id, followed_id));
CREATE TABLE likes (person_id int REFERENCES person, post_id int REFERENCES post, PRIMARY KEY (person_id, post_id));
CREATE TABLE hides (person_id int REFERENCES person, post_id int REFERENCES post, PRIMARY KEY (person_id, post_id));
CREATE TABLE type (id int PRIMARY KEY);
CREATE TABLE type_topic (type_id int REFERENCES type, topic_id int REFERENCES topic, PRIMARY KEY (topic_id, type_id));
INSERT INTO building VALUES (1), (2);
INSERT INTO person VALUES (1, 'a', 1, 2), (2, 'b', NULL, 2), (3, 'c', 1, 1);
INSERT INTO club VALUES (1, 'n'), (2, NULL);
INSERT INTO topic VALUES (1), (2);
INSERT INTO post VALUES (1), (2);
INSERT INTO guild VALUES (1, 1), (2, NULL);
INSERT INTO guild_member VALUES (1, 1), (1, 3);
INSERT INTO member VALUES (1, 1), (1, 2), (2, 2);
INSERT INTO post_topic (post_id, topic_id, added_by) VALUES (1, 1, 1), (1, 2, NULL), (2, 2, 3);
INSERT INTO follows VALUES (1, 2), (2, 1), (3, 1);
INSERT INTO likes VALUES (1, 1), (2, 1);
INSERT INTO hides VALUES (1, 2);
INSERT INTO type VALUES (1);
INSERT INTO type_topic VALUES (1, 1), (1, 2);
-- A junction whose key is an enum.
CREATE TYPE grade AS ENUM ('low', 'high');
CREATE TABLE rank (grade grade PRIMARY KEY, pay int NOT NULL);
CREATE TABLE duty (id int PRIMARY KEY);
CREATE TABLE rank_duty (grade grade NOT NULL REFERENCES rank, duty_id int NOT NULL REFERENCES duty, PRIMARY KEY (grade, duty_id));
INSERT INTO rank VALUES ('low', 1), ('high', 2);
INSERT INTO duty VALUES (1);
INSERT INTO rank_duty VALUES ('low', 1), ('high', 1);
