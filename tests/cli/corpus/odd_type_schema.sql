-- Types in a schema that is not on the search path, as Supabase has its extensions.
CREATE SCHEMA extensions;
CREATE EXTENSION citext SCHEMA extensions;
CREATE EXTENSION hstore SCHEMA extensions;
CREATE TYPE extensions.mood AS ENUM ('sad', 'ok');
CREATE TYPE extensions."My Type" AS ENUM ('a');
CREATE TYPE mood AS ENUM ('else');
CREATE DOMAIN extensions.email AS extensions.citext CHECK (VALUE LIKE '%@%');
CREATE TYPE extensions.pair AS (a int, b text);
CREATE TABLE account (
  id int PRIMARY KEY, name extensions.citext NOT NULL UNIQUE, names extensions.citext[] NOT NULL, mood extensions.mood NOT NULL,
  moods extensions.mood[] NOT NULL, here mood NOT NULL, quoted extensions."My Type" NOT NULL, email extensions.email NOT NULL, pair extensions.pair, tags extensions.hstore NOT NULL);
INSERT INTO account VALUES (1, 'Ada', '{A,"b c"}', 'ok', '{sad,ok}', 'else', 'a', 'A@B', '(1,x)', 'a=>1'), (2, 'Bob', '{}', 'sad', '{}', 'else', 'a', 'c@d', NULL, '');
