-- Names from other languages.
CREATE TYPE "стан" AS ENUM ('новий', 'старий', '良い');
CREATE TABLE "größe" (id int PRIMARY KEY, "länge" int NOT NULL, "ß" int NOT NULL);
CREATE TABLE "顧客" (id int PRIMARY KEY, "名前" text NOT NULL, "größe_id" int NOT NULL REFERENCES "größe", "😀" int NOT NULL);
CREATE TABLE "замовлення" (id int PRIMARY KEY, "顧客_id" int REFERENCES "顧客", "стан" "стан" NOT NULL);
CREATE TABLE naïve (id int PRIMARY KEY, "Ελλάδα" text NOT NULL, "عدد" int NOT NULL, "İstanbul" int NOT NULL);
INSERT INTO "größe" VALUES (1, 2, 3);
INSERT INTO "顧客" VALUES (1, 'n', 1, 2), (2, 'm', 1, 2);
INSERT INTO "замовлення" VALUES (1, 1, 'новий'), (2, NULL, '良い');
INSERT INTO naïve VALUES (1, 'x', 2, 3);
