-- Chess: players, tournaments with pairings (white and black), games with moves keyed by game and ply, openings by text key, ratings through time.
-- NOTE table moves, column side: left out, because the server computes it (GENERATED ALWAYS AS)
CREATE TYPE colour AS ENUM ('white', 'black');
CREATE TYPE result AS ENUM ('1-0', '0-1', '1/2-1/2', '*');
CREATE TYPE title AS ENUM ('GM', 'IM', 'FM', 'CM', 'WGM');
CREATE DOMAIN elo AS smallint CHECK (VALUE BETWEEN 100 AND 3500);
CREATE DOMAIN san AS varchar(10) CHECK (length(VALUE) >= 2);
CREATE DOMAIN square AS char(2) CHECK (VALUE ~ '^[a-h][1-8]$');
CREATE TABLE federations (code char(3) PRIMARY KEY, name text NOT NULL);
CREATE TABLE players (fide_id integer PRIMARY KEY, name text NOT NULL, federation char(3) REFERENCES federations (code) ON UPDATE CASCADE, title title, past_titles title[] NOT NULL DEFAULT '{}', born smallint, coach_id integer REFERENCES players);
CREATE TABLE ratings (fide_id integer NOT NULL REFERENCES players ON DELETE CASCADE, month date NOT NULL CHECK (extract(day FROM month) = 1), standard elo, rapid elo, blitz elo, PRIMARY KEY (fide_id, month));
CREATE TABLE openings (eco char(3) NOT NULL, variation text NOT NULL DEFAULT '', moves san[] NOT NULL, transposes_eco char(3), transposes_variation text, PRIMARY KEY (eco, variation), FOREIGN KEY (transposes_eco, transposes_variation) REFERENCES openings (eco, variation));
CREATE TABLE tournaments (id serial PRIMARY KEY, name text NOT NULL, days daterange NOT NULL, base interval NOT NULL, increment interval NOT NULL DEFAULT '0', winner_id integer REFERENCES players, prize numeric(12,2));
CREATE TABLE entrants (tournament_id integer NOT NULL REFERENCES tournaments ON DELETE CASCADE, fide_id integer NOT NULL REFERENCES players, seed smallint, PRIMARY KEY (tournament_id, fide_id), CONSTRAINT seeds UNIQUE (tournament_id, seed) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE games (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tournament_id integer, round smallint, white_id integer NOT NULL REFERENCES players (fide_id), black_id integer NOT NULL REFERENCES players (fide_id), played timestamptz, eco char(3), variation text, result result NOT NULL DEFAULT '*', FOREIGN KEY (tournament_id, white_id) REFERENCES entrants (tournament_id, fide_id), FOREIGN KEY (tournament_id, black_id) REFERENCES entrants (tournament_id, fide_id), FOREIGN KEY (eco, variation) REFERENCES openings, CHECK (white_id <> black_id));
CREATE TABLE moves (game_id uuid NOT NULL REFERENCES games ON DELETE CASCADE, ply smallint NOT NULL CHECK (ply > 0), san san NOT NULL, "from" square NOT NULL, "to" square NOT NULL, clock interval, eval real, side colour GENERATED ALWAYS AS (CASE WHEN ply % 2 = 1 THEN 'white'::colour ELSE 'black'::colour END) STORED, PRIMARY KEY (game_id, ply));
CREATE TABLE comments (game_id uuid NOT NULL, ply smallint NOT NULL, seq smallint NOT NULL, author_id integer REFERENCES players, body text NOT NULL, nags smallint[], PRIMARY KEY (game_id, ply, seq), FOREIGN KEY (game_id, ply) REFERENCES moves ON DELETE CASCADE);
CREATE TABLE positions (hash bigint PRIMARY KEY, board bytea NOT NULL, castling bit(4) NOT NULL, first_game uuid REFERENCES games ON DELETE SET NULL);
CREATE VIEW scores AS SELECT tournament_id, white_id AS fide_id, sum(CASE result WHEN '1-0' THEN 1 WHEN '1/2-1/2' THEN 0.5 ELSE 0 END) AS points FROM games GROUP BY 1, 2;
INSERT INTO federations VALUES ('NOR', 'Norway'), ('IND', 'India');
INSERT INTO players VALUES (1, 'Ann', 'NOR', 'GM', '{FM,IM}', 1990, NULL), (2, 'Bob', NULL, NULL, '{}', NULL, 1), (3, 'Cy', 'NOR', 'CM', '{}', 2005, 1);
INSERT INTO ratings VALUES (1, '2024-01-01', 2700, 2650, NULL), (1, '2024-02-01', 2705, NULL, NULL), (2, '2024-01-01', NULL, NULL, 100);
INSERT INTO openings VALUES ('C60', '', '{e4,e5,Nf3,Nc6,Bb5}', NULL, NULL), ('C65', 'Berlin', '{e4,e5}', 'C60', ''), ('A00', 'Odd', '{}', 'C60', '');
INSERT INTO tournaments VALUES (1, 'Open', '[2024-01-01,2024-01-10)', '01:30:00', '30 seconds', 1, 1000.00), (2, 'Blitz', '[2024-02-01,2024-02-02)', '3 minutes', '2 seconds', NULL, NULL), (3, 'Rapid', '(,)', '00:10:00', '0', 1, 0);
INSERT INTO entrants VALUES (1, 1, 1), (1, 2, NULL), (1, 3, 2), (2, 1, 1);
INSERT INTO games VALUES ('09000000-0000-0000-0000-000000000001', 1, 1, 1, 2, '2024-01-01 12:00:00+00', 'C60', '', '1-0'), ('09000000-0000-0000-0000-000000000002', NULL, NULL, 1, 2, NULL, NULL, NULL, '*'), ('09000000-0000-0000-0000-000000000003', 1, 2, 1, 3, '2024-01-02 12:00:00+00', 'C60', '', '1/2-1/2');
INSERT INTO moves (game_id, ply, san, "from", "to", clock, eval) VALUES ('09000000-0000-0000-0000-000000000001', 1, 'e4', 'e2', 'e4', '01:29:58', 0.3), ('09000000-0000-0000-0000-000000000001', 2, 'e5', 'e7', 'e5', NULL, NULL), ('09000000-0000-0000-0000-000000000003', 1, 'Nf3', 'g1', 'f3', '00:00:00.1', -0.25);
INSERT INTO comments VALUES ('09000000-0000-0000-0000-000000000001', 1, 1, 1, 'best', '{1,14}'), ('09000000-0000-0000-0000-000000000001', 1, 2, NULL, '', NULL), ('09000000-0000-0000-0000-000000000003', 1, 1, 1, 'x', '{}');
INSERT INTO positions VALUES (-9223372036854775808, '\x00ff', B'1111', '09000000-0000-0000-0000-000000000001'), (0, '\x', B'0000', NULL), (9223372036854775807, '\x01', B'1010', '09000000-0000-0000-0000-000000000001');
