-- Event ticketing: venues, sections and seats by three-column keys, shows, price levels, seat holds with one ticket per seat and show.
-- NOTE table price_levels, column total: left out, because the server computes it (GENERATED ALWAYS AS)
CREATE TYPE ticket_status AS ENUM ('held', 'sold', 'scanned', 'void');
CREATE DOMAIN cents AS integer CHECK (VALUE >= 0);
CREATE TABLE venues (id serial PRIMARY KEY, name varchar(120) NOT NULL, tz varchar(40) NOT NULL, plan box, geo double precision[2]);
CREATE TABLE sections (venue_id integer NOT NULL REFERENCES venues ON DELETE CASCADE, code varchar(6) NOT NULL, is_standing boolean NOT NULL DEFAULT false, PRIMARY KEY (venue_id, code));
CREATE TABLE seats (venue_id integer NOT NULL, section varchar(6) NOT NULL, row_label varchar(3) NOT NULL, number smallint NOT NULL, accessible boolean, PRIMARY KEY (venue_id, section, row_label, number), FOREIGN KEY (venue_id, section) REFERENCES sections (venue_id, code) ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE performers (slug text PRIMARY KEY, name text NOT NULL, genres text[]);
CREATE TABLE shows (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), venue_id integer NOT NULL REFERENCES venues, headliner text REFERENCES performers (slug) ON UPDATE CASCADE, doors timestamptz NOT NULL, on_sale tstzrange, moved_from uuid UNIQUE REFERENCES shows);
CREATE TABLE show_performers (show_id uuid NOT NULL REFERENCES shows ON DELETE CASCADE, performer text NOT NULL REFERENCES performers ON UPDATE CASCADE, billing smallint NOT NULL, PRIMARY KEY (show_id, performer));
CREATE TABLE price_levels (show_id uuid NOT NULL REFERENCES shows ON DELETE CASCADE, level char(1) NOT NULL, face cents NOT NULL, fee cents NOT NULL DEFAULT 0, total integer GENERATED ALWAYS AS (face::integer + fee::integer) STORED, PRIMARY KEY (show_id, level));
CREATE TABLE buyers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL, phone text, UNIQUE NULLS NOT DISTINCT (email, phone));
CREATE TABLE orders (number bigserial PRIMARY KEY, buyer_id bigint NOT NULL REFERENCES buyers, placed_at timestamptz NOT NULL DEFAULT now(), ip inet, risk real);
CREATE TABLE tickets (code char(12) PRIMARY KEY, show_id uuid NOT NULL, level char(1) NOT NULL, order_number bigint REFERENCES orders ON DELETE SET NULL, venue_id integer, section varchar(6), row_label varchar(3), seat_number smallint, status ticket_status NOT NULL DEFAULT 'held', held_until timestamptz, FOREIGN KEY (show_id, level) REFERENCES price_levels, FOREIGN KEY (venue_id, section, row_label, seat_number) REFERENCES seats (venue_id, section, row_label, number));
CREATE UNIQUE INDEX tickets_seat ON tickets (show_id, venue_id, section, row_label, seat_number) WHERE status <> 'void';
CREATE TABLE transfers (ticket_code char(12) NOT NULL REFERENCES tickets (code), seq smallint NOT NULL, from_buyer bigint NOT NULL REFERENCES buyers, to_buyer bigint REFERENCES buyers, accepted boolean, PRIMARY KEY (ticket_code, seq));
CREATE TABLE scans (id bigserial PRIMARY KEY, ticket_code char(12) NOT NULL REFERENCES tickets (code), gate smallint NOT NULL, at timestamptz NOT NULL, device macaddr);
INSERT INTO venues VALUES (1, 'Hall', 'Europe/Oslo', '(10,20),(0,0)', '{59.9,10.7}'), (2, 'Barn', 'UTC', NULL, NULL);
INSERT INTO sections VALUES (1, 'A', false), (1, 'FLOOR', true), (2, 'A', false);
INSERT INTO seats VALUES (1, 'A', '1', 1, true), (1, 'A', '1', 2, NULL), (2, 'A', 'AA', 1, false);
INSERT INTO performers VALUES ('valves', 'The Valves', '{rock,"art rock"}'), ('solo', 'Solo', NULL), ('rest', 'Rest', '{}');
INSERT INTO shows VALUES ('b0000000-0000-0000-0000-000000000001', 1, 'valves', '2024-06-01 18:00:00+00', '["2024-01-01 00:00:00+00","2024-06-01 00:00:00+00")', NULL), ('b0000000-0000-0000-0000-000000000002', 1, NULL, '2024-06-08 18:00:00+00', NULL, 'b0000000-0000-0000-0000-000000000001'), ('b0000000-0000-0000-0000-000000000003', 2, 'valves', '2024-06-09 18:00:00+00', NULL, NULL);
INSERT INTO show_performers VALUES ('b0000000-0000-0000-0000-000000000001', 'valves', 1), ('b0000000-0000-0000-0000-000000000001', 'solo', 2), ('b0000000-0000-0000-0000-000000000002', 'valves', 1);
INSERT INTO price_levels (show_id, level, face, fee) VALUES ('b0000000-0000-0000-0000-000000000001', 'A', 5000, 250), ('b0000000-0000-0000-0000-000000000001', 'B', 2500, 0), ('b0000000-0000-0000-0000-000000000002', 'A', 0, 0);
INSERT INTO buyers (email, phone) VALUES ('a@example.org', '1'), ('a@example.org', NULL), ('b@example.org', NULL);
INSERT INTO orders VALUES (1, 1, '2024-01-02 00:00:00+00', '10.0.0.1', 0.5), (2, 1, '2024-01-03 00:00:00+00', NULL, NULL);
INSERT INTO tickets VALUES ('T1', 'b0000000-0000-0000-0000-000000000001', 'A', 1, 1, 'A', '1', 1, 'sold', NULL), ('T2', 'b0000000-0000-0000-0000-000000000001', 'A', NULL, NULL, NULL, NULL, NULL, 'held', '2024-01-02 00:10:00+00'), ('T3', 'b0000000-0000-0000-0000-000000000001', 'B', 1, 1, 'A', '1', 1, 'void', NULL);
INSERT INTO transfers VALUES ('T1', 1, 1, 2, true), ('T1', 2, 2, NULL, NULL), ('T3', 1, 1, 2, false);
INSERT INTO scans VALUES (1, 'T1', 3, '2024-06-01 18:05:00+00', '08:00:2b:01:02:03'), (2, 'T1', 4, '2024-06-01 18:06:00+00', NULL);
