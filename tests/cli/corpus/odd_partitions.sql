-- Partitions, inheritance, foreign keys to and from partitioned tables.
CREATE TABLE device (id int PRIMARY KEY);
CREATE TABLE reading (device_id int NOT NULL REFERENCES device, at date NOT NULL, value float8 NOT NULL, PRIMARY KEY (device_id, at)) PARTITION BY RANGE (at);
CREATE TABLE reading_2026 PARTITION OF reading FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE reading_rest PARTITION OF reading DEFAULT;
CREATE TABLE alarm (id int PRIMARY KEY, device_id int NOT NULL, at date NOT NULL, FOREIGN KEY (device_id, at) REFERENCES reading);
CREATE TABLE base (id int PRIMARY KEY, note text NOT NULL);
CREATE TABLE derived (PRIMARY KEY (id), more int NOT NULL) INHERITS (base);
INSERT INTO device VALUES (1), (2);
INSERT INTO reading VALUES (1, '2026-01-01', 1.5), (1, '2025-01-01', 2.5);
INSERT INTO alarm VALUES (1, 1, '2026-01-01');
INSERT INTO base VALUES (1, 'b');
INSERT INTO derived VALUES (2, 'd', 3);
