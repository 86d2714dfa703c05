-- Types of one's own: quoted names, domains over domains, composite types, ranges.
-- NOTE type quo"te: its columns are text, because SeaORM does not escape the quote in its name
-- NOTE type nothing: its columns are text, because it has no values
CREATE TYPE "My Mood" AS ENUM ('so so', 'fine');
CREATE TYPE "a.b" AS ENUM ('x');
CREATE TYPE "quo""te" AS ENUM ('y');
CREATE TYPE nothing AS ENUM ();
CREATE DOMAIN small AS int CHECK (VALUE < 100);
CREATE DOMAIN smaller AS small NOT NULL CHECK (VALUE < 10);
CREATE DOMAIN code AS varchar(3);
CREATE DOMAIN moody AS "My Mood";
CREATE DOMAIN list AS int[];
CREATE DOMAIN price AS numeric(8, 2);
CREATE TYPE pair AS (a int, b text);
CREATE TYPE floats AS RANGE (subtype = float8);
CREATE TABLE owned (
  id smaller PRIMARY KEY, mood "My Mood" NOT NULL, moods "My Mood"[] NOT NULL, dotted "a.b" NOT NULL, quoted "quo""te" NOT NULL, nothing nothing, s small, code code NOT NULL, codes code[] NOT NULL,
  moody moody NOT NULL, list list NOT NULL, price price NOT NULL, prices price[] NOT NULL, pair pair NOT NULL, pairs pair[] NOT NULL, floats floats NOT NULL, negative numeric(3, -2) NOT NULL);
CREATE TABLE other (id smaller PRIMARY KEY, owned_id small REFERENCES owned);
INSERT INTO owned VALUES (1, 'so so', '{fine,"so so"}', 'x', 'y', NULL, NULL, 'abc', '{a,b}', 'fine', '{1,2}', 1.50, '{2.50}', '(1,x)', '{"(1,\"a b\")","(2,)"}', '[1.5,2.5)', 12300);
INSERT INTO other VALUES (1, 1), (2, NULL);
