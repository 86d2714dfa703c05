-- A digital music store: snake_case tables in the singular, invoices, playlists by a junction table, a self reference.
CREATE TABLE artist (artist_id int NOT NULL, name varchar(120), CONSTRAINT artist_pkey PRIMARY KEY (artist_id));
CREATE TABLE album (album_id int NOT NULL, title varchar(160) NOT NULL, artist_id int NOT NULL, CONSTRAINT album_pkey PRIMARY KEY (album_id));
CREATE TABLE employee (
    employee_id int NOT NULL,
    last_name varchar(20) NOT NULL,
    first_name varchar(20) NOT NULL,
    title varchar(30),
    reports_to int,
    birth_date timestamp,
    hire_date timestamp,
    email varchar(60),
    CONSTRAINT employee_pkey PRIMARY KEY (employee_id)
);
CREATE TABLE customer (
    customer_id int NOT NULL,
    first_name varchar(40) NOT NULL,
    last_name varchar(20) NOT NULL,
    company varchar(80),
    postal_code varchar(10),
    email varchar(60) NOT NULL,
    support_rep_id int,
    CONSTRAINT customer_pkey PRIMARY KEY (customer_id)
);
CREATE TABLE genre (genre_id int NOT NULL, name varchar(120), CONSTRAINT genre_pkey PRIMARY KEY (genre_id));
CREATE TABLE media_type (media_type_id int NOT NULL, name varchar(120), CONSTRAINT media_type_pkey PRIMARY KEY (media_type_id));
CREATE TABLE track (
    track_id int NOT NULL,
    name varchar(200) NOT NULL,
    album_id int,
    media_type_id int NOT NULL,
    genre_id int,
    composer varchar(220),
    milliseconds int NOT NULL,
    bytes int,
    unit_price numeric(10,2) NOT NULL,
    CONSTRAINT track_pkey PRIMARY KEY (track_id)
);
CREATE TABLE invoice (
    invoice_id int NOT NULL,
    customer_id int NOT NULL,
    invoice_date timestamp NOT NULL,
    billing_country varchar(40),
    total numeric(10,2) NOT NULL,
    CONSTRAINT invoice_pkey PRIMARY KEY (invoice_id)
);
CREATE TABLE invoice_line (
    invoice_line_id int NOT NULL,
    invoice_id int NOT NULL,
    track_id int NOT NULL,
    unit_price numeric(10,2) NOT NULL,
    quantity int NOT NULL,
    CONSTRAINT invoice_line_pkey PRIMARY KEY (invoice_line_id)
);
CREATE TABLE playlist (playlist_id int NOT NULL, name varchar(120), CONSTRAINT playlist_pkey PRIMARY KEY (playlist_id));
CREATE TABLE playlist_track (playlist_id int NOT NULL, track_id int NOT NULL, CONSTRAINT playlist_track_pkey PRIMARY KEY (playlist_id, track_id));
ALTER TABLE album ADD CONSTRAINT album_artist_id_fkey FOREIGN KEY (artist_id) REFERENCES artist (artist_id) ON DELETE NO ACTION ON UPDATE NO ACTION;
ALTER TABLE employee ADD CONSTRAINT employee_reports_to_fkey FOREIGN KEY (reports_to) REFERENCES employee (employee_id);
ALTER TABLE customer ADD CONSTRAINT customer_support_rep_id_fkey FOREIGN KEY (support_rep_id) REFERENCES employee (employee_id);
ALTER TABLE track ADD CONSTRAINT track_album_id_fkey FOREIGN KEY (album_id) REFERENCES album (album_id);
ALTER TABLE track ADD CONSTRAINT track_genre_id_fkey FOREIGN KEY (genre_id) REFERENCES genre (genre_id);
ALTER TABLE track ADD CONSTRAINT track_media_type_id_fkey FOREIGN KEY (media_type_id) REFERENCES media_type (media_type_id);
ALTER TABLE invoice ADD CONSTRAINT invoice_customer_id_fkey FOREIGN KEY (customer_id) REFERENCES customer (customer_id);
ALTER TABLE invoice_line ADD CONSTRAINT invoice_line_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES invoice (invoice_id);
ALTER TABLE invoice_line ADD CONSTRAINT invoice_line_track_id_fkey FOREIGN KEY (track_id) REFERENCES track (track_id);
ALTER TABLE playlist_track ADD CONSTRAINT playlist_track_playlist_id_fkey FOREIGN KEY (playlist_id) REFERENCES playlist (playlist_id);
ALTER TABLE playlist_track ADD CONSTRAINT playlist_track_track_id_fkey FOREIGN KEY (track_id) REFERENCES track (track_id);
CREATE INDEX track_genre_id_idx ON track (genre_id);
CREATE INDEX playlist_track_track_id_idx ON playlist_track (track_id);

INSERT INTO artist VALUES (1, 'The Valves'), (2, NULL), (3, 'Rust Belt');
INSERT INTO album VALUES (1, 'Loud', 1), (2, 'Louder', 1), (3, 'Soft', 2);
INSERT INTO employee VALUES (1, 'Adams', 'Andy', 'General Manager', NULL, '1962-02-18 00:00:00', '2002-08-14 00:00:00', 'andy@example.org'), (2, 'Edwards', 'Nan', NULL, 1, NULL, NULL, NULL), (3, 'Park', 'Jane', 'Agent', 1, NULL, NULL, NULL);
INSERT INTO customer VALUES (1, 'Luis', 'Gomes', 'Embra', '12227-000', 'luis@example.org', 3), (2, 'Leo', 'K', NULL, NULL, 'leo@example.org', NULL), (3, 'Fran', 'T', NULL, NULL, 'f@example.org', 3);
INSERT INTO genre VALUES (1, 'Rock'), (2, 'Jazz');
INSERT INTO media_type VALUES (1, 'MPEG audio file'), (2, 'AAC audio file');
INSERT INTO track VALUES (1, 'Start', 1, 1, 1, 'A. Young', 343719, 11170334, 0.99), (2, 'Middle', 1, 1, 1, NULL, 1, NULL, 1.99), (3, 'Loose', NULL, 1, NULL, NULL, 0, 0, 0);
INSERT INTO invoice VALUES (1, 1, '2021-01-01 00:00:00', 'Brazil', 1.98), (2, 1, '2021-01-02 13:14:15.123456', NULL, 0), (3, 2, '2021-01-03 00:00:00', NULL, 5.94);
INSERT INTO invoice_line VALUES (1, 1, 1, 0.99, 1), (2, 1, 2, 0.99, 1), (3, 2, 1, 0.99, 2);
INSERT INTO playlist VALUES (1, 'Music'), (2, NULL);
INSERT INTO playlist_track VALUES (1, 1), (1, 2);
