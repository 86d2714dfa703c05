-- Names that differ by case only, or fold to one.
-- NOTE type loud: its columns are text, because its values Big and big differ by case only
-- NOTE type person: its columns are text, because SeaORM cannot name a variant after its value self
CREATE TYPE size AS ENUM ('x-large', 'X_large', 'x large', '', '%', '2fa', 'größe', 'O''Neil', 'a"b', 'back\slash');
CREATE TYPE loud AS ENUM ('Big', 'big');
CREATE TYPE person AS ENUM ('self', 'other');
CREATE TYPE "Size" AS ENUM ('one');
CREATE TYPE size_enum AS ENUM ('two');
CREATE TABLE user_data (id int PRIMARY KEY, "userName" text NOT NULL, user_name text NOT NULL, "USER_NAME" text NOT NULL, a1 int NOT NULL, a_1 int NOT NULL, "A1" int NOT NULL);
CREATE TABLE "UserData" (id int PRIMARY KEY, user_data_id int NOT NULL REFERENCES user_data, size size NOT NULL, sizes size[] NOT NULL, "Size" "Size" NOT NULL, third size_enum NOT NULL, loud loud NOT NULL, louds loud[] NOT NULL, who person);
CREATE TABLE "userData" (id int PRIMARY KEY, "UserDataId" int REFERENCES "UserData");
INSERT INTO user_data VALUES (1, 'a', 'b', 'c', 1, 2, 3);
INSERT INTO "UserData" VALUES (1, 1, 'x-large', '{X_large,"",%}', 'one', 'two', 'big', '{Big,big}', 'self'), (2, 1, 'größe', '{}', 'one', 'two', 'Big', '{}', NULL), (3, 1, 'a"b', '{"a\"b","O''Neil","back\\slash"}', 'one', 'two', 'Big', '{}', NULL);
INSERT INTO "userData" VALUES (1, 1), (2, NULL);
