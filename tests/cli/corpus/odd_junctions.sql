-- Junction tables: alone, with a third foreign key, of a table with itself, two between the same tables, and foreign keys
-- beside one.
CREATE TABLE person (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE club (id int PRIMARY KEY, founder_id int REFERENCES person);
CREATE TABLE topic (id int PRIMARY KEY);
CREATE TABLE post (id int PRIMARY KEY);
CREATE TABLE member (club_id int REFERENCES club, person_id int REFERENCES person, PRIMARY KEY (club_id, person_id));
CREATE TABLE post_topic (post_id int REFERENCES post, topic_id int REFERENCES topic, added_by int REFERENCES person,
  at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (post_id, topic_id));
CREATE TABLE follows (person_id int REFERENCES person, followed_id int REFERENCES person, PRIMARY KEY (person_id, followed_id));
CREATE TABLE likes (person_id int REFERENCES person, post_id int REFERENCES post, PRIMARY KEY (person_id, post_id));
CREATE TABLE hides (person_id int REFERENCES person, post_id int REFERENCES post, PRIMARY KEY (person_id, post_id));
CREATE TABLE type (id int PRIMARY KEY);
CREATE TABLE type_topic (type_id int REFERENCES type, topic_id int REFERENCES topic, PRIMARY KEY (topic_id, type_id));
INSERT INTO person VALUES (1, 'a'), (2, 'b'), (3, 'c');
INSERT INTO club VALUES (1, 1), (2, NULL);
INSERT INTO topic VALUES (1), (2);
INSERT INTO post VALUES (1), (2);
INSERT INTO member VALUES (1, 1), (1, 2), (2, 2);
INSERT INTO post_topic (post_id, topic_id, added_by) VALUES (1, 1, 1), (1, 2, NULL), (2, 2, 3);
INSERT INTO follows VALUES (1, 2), (2, 1), (3, 1);
INSERT INTO likes VALUES (1, 1), (2, 1);
INSERT INTO hides VALUES (1, 2);
INSERT INTO type VALUES (1);
INSERT INTO type_topic VALUES (1, 1), (1, 2);
