-- Names that are no identifiers.
CREATE TABLE "2fa" (id int PRIMARY KEY, "2fa" text NOT NULL, "%" int NOT NULL, "_" int NOT NULL, "a b" int NOT NULL, "a-b" int NOT NULL, "a.b" int, "say ""hi""" int, "back\slash" int, "it's" int);
CREATE TABLE "%" (id int PRIMARY KEY, "2fa_id" int NOT NULL REFERENCES "2fa");
CREATE TABLE "_" (id int PRIMARY KEY, _id int, __id int);
CREATE TABLE "weird table!" (id int PRIMARY KEY, "_" int REFERENCES "_");
CREATE TABLE "quo""te" (id int PRIMARY KEY);
CREATE TABLE "a.b" (id int PRIMARY KEY);
INSERT INTO "2fa" VALUES (1, 'x', 1, 2, 3, 4, 5, 6, 7, 8);
INSERT INTO "%" VALUES (1, 1), (2, 1);
INSERT INTO "_" VALUES (1, 2, 3);
INSERT INTO "weird table!" VALUES (1, 1), (2, NULL);
INSERT INTO "quo""te" VALUES (1);
INSERT INTO "a.b" VALUES (1);
