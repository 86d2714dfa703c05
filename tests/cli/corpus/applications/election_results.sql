-- Elections: districts in a hierarchy, parties and alliances, candidates on lists by rank, ballots counted per polling station, seats won.
-- NOTE table candidates, column office: gives district_seats and people no many-to-many relation, because SeaORM cannot read a key of type office in a junction table
-- NOTE table district_seats, column office: gives districts and elections no many-to-many relation, because SeaORM cannot read a key of type office in a junction table
CREATE TYPE office AS ENUM ('parliament', 'council', 'mayor');
CREATE TYPE vote_kind AS ENUM ('early', 'postal', 'election_day');
CREATE DOMAIN votes AS integer CHECK (VALUE >= 0);
CREATE TABLE elections (office office NOT NULL, held date NOT NULL, polls tstzmultirange, system jsonb NOT NULL DEFAULT '{}', rerun_of date, PRIMARY KEY (office, held), FOREIGN KEY (office, rerun_of) REFERENCES elections (office, held));
CREATE TABLE districts (code varchar(8) PRIMARY KEY, name text NOT NULL, part_of varchar(8) REFERENCES districts ON UPDATE CASCADE, registered integer);
CREATE TABLE district_seats (office office NOT NULL, held date NOT NULL, district varchar(8) NOT NULL REFERENCES districts ON UPDATE CASCADE, seats smallint NOT NULL, levelling smallint, PRIMARY KEY (office, held, district), FOREIGN KEY (office, held) REFERENCES elections ON DELETE CASCADE);
CREATE TABLE parties (short varchar(6) PRIMARY KEY, name text NOT NULL UNIQUE, colour char(7), logo bytea, successor varchar(6) REFERENCES parties);
CREATE TABLE alliances (id serial PRIMARY KEY, office office NOT NULL, held date NOT NULL, name text NOT NULL, FOREIGN KEY (office, held) REFERENCES elections);
CREATE TABLE alliance_parties (alliance_id integer NOT NULL REFERENCES alliances ON DELETE CASCADE, party varchar(6) NOT NULL REFERENCES parties ON UPDATE CASCADE, leads boolean NOT NULL DEFAULT false, PRIMARY KEY (alliance_id, party));
CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, born date, occupations text[]);
CREATE TABLE candidates (office office NOT NULL, held date NOT NULL, district varchar(8) NOT NULL, person_id bigint NOT NULL REFERENCES people, party varchar(6) REFERENCES parties, rank smallint, PRIMARY KEY (office, held, district, person_id), FOREIGN KEY (office, held, district) REFERENCES district_seats (office, held, district) ON UPDATE CASCADE);
CREATE TABLE polling_stations (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), district varchar(8) NOT NULL REFERENCES districts ON UPDATE CASCADE, address text NOT NULL, hours timetz[]);
CREATE TABLE counts (station_id uuid NOT NULL REFERENCES polling_stations, office office NOT NULL, held date NOT NULL, kind vote_kind NOT NULL, party varchar(6) NOT NULL REFERENCES parties, votes votes NOT NULL, share numeric(7,6), counted timestamptz, PRIMARY KEY (station_id, office, held, kind, party), FOREIGN KEY (office, held) REFERENCES elections);
CREATE TABLE seats_won (office office NOT NULL, held date NOT NULL, district varchar(8) NOT NULL, seat_no smallint NOT NULL, person_id bigint NOT NULL, deputy_id bigint, quotient numeric, PRIMARY KEY (office, held, district, seat_no), FOREIGN KEY (office, held, district, person_id) REFERENCES candidates (office, held, district, person_id), FOREIGN KEY (office, held, district, deputy_id) REFERENCES candidates (office, held, district, person_id));
INSERT INTO elections VALUES ('council', '2019-09-09', NULL, '{}', NULL), ('council', '2023-09-11', '{["2023-09-10 07:00:00+00","2023-09-10 19:00:00+00"),["2023-09-11 07:00:00+00","2023-09-11 19:00:00+00")}', '{"method": "sainte-lague", "first": 1.4}', '2019-09-09'), ('mayor', '2023-09-11', '{}', '[]', NULL), ('council', '2024-01-01', NULL, '{}', '2019-09-09');
INSERT INTO districts VALUES ('NO', 'All', NULL, 4000000), ('NO-03', 'Oslo', 'NO', NULL), ('NO-46', 'West', 'NO', 0);
INSERT INTO district_seats VALUES ('council', '2023-09-11', 'NO-03', 59, NULL), ('council', '2023-09-11', 'NO-46', 2, 1);
INSERT INTO parties VALUES ('A', 'Apples', '#ff0000', '\x89', NULL), ('B', 'Bananas', NULL, NULL, 'A'), ('C', 'Cherries', '#000', '\x', 'A');
INSERT INTO alliances VALUES (1, 'council', '2023-09-11', 'Fruit'), (2, 'council', '2023-09-11', 'Nuts');
INSERT INTO alliance_parties VALUES (1, 'A', true), (1, 'B', false), (2, 'A', false);
INSERT INTO people (name, born, occupations) VALUES ('Ann', '1970-01-01', '{teacher,"sea captain"}'), ('Bob', NULL, NULL), ('Cy', '2005-02-03', '{}');
INSERT INTO candidates VALUES ('council', '2023-09-11', 'NO-03', 1, 'A', 1), ('council', '2023-09-11', 'NO-03', 2, NULL, NULL), ('council', '2023-09-11', 'NO-03', 3, 'A', 2);
INSERT INTO polling_stations VALUES ('0a000000-0000-0000-0000-000000000001', 'NO-03', 'School', '{09:00:00+02,21:00:00+02}'), ('0a000000-0000-0000-0000-000000000002', 'NO-03', 'Hall', NULL);
INSERT INTO counts VALUES ('0a000000-0000-0000-0000-000000000001', 'council', '2023-09-11', 'early', 'A', 100, 0.333333, '2023-09-11 20:00:00+00'), ('0a000000-0000-0000-0000-000000000001', 'council', '2023-09-11', 'postal', 'A', 0, NULL, NULL), ('0a000000-0000-0000-0000-000000000001', 'council', '2023-09-11', 'early', 'B', 200, 0.666667, NULL);
INSERT INTO seats_won VALUES ('council', '2023-09-11', 'NO-03', 1, 1, 3, 71.428571428571), ('council', '2023-09-11', 'NO-03', 2, 2, NULL, NULL), ('council', '2023-09-11', 'NO-03', 3, 1, 3, 1.10);
