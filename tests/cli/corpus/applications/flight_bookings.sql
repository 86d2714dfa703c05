-- Airline bookings: jsonb names, char keys, composite keys referred to by a composite key, points and generated views.
CREATE TYPE flight_status AS ENUM ('On Time', 'Delayed', 'Departed', 'Arrived', 'Scheduled', 'Cancelled');
CREATE FUNCTION lang() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'en'::text $$;
CREATE TABLE aircrafts_data (
    aircraft_code character(3) NOT NULL PRIMARY KEY,
    model jsonb NOT NULL,
    range integer NOT NULL CHECK (range > 0)
);
CREATE TABLE airports_data (
    airport_code character(3) NOT NULL PRIMARY KEY,
    airport_name jsonb NOT NULL,
    city jsonb NOT NULL,
    coordinates point NOT NULL,
    timezone text NOT NULL
);
CREATE TABLE bookings (
    book_ref character(6) NOT NULL PRIMARY KEY,
    book_date timestamp with time zone NOT NULL,
    total_amount numeric(10,2) NOT NULL
);
CREATE TABLE flights (
    flight_id serial NOT NULL PRIMARY KEY,
    flight_no character(6) NOT NULL,
    scheduled_departure timestamp with time zone NOT NULL,
    scheduled_arrival timestamp with time zone NOT NULL,
    departure_airport character(3) NOT NULL REFERENCES airports_data (airport_code),
    arrival_airport character(3) NOT NULL REFERENCES airports_data (airport_code),
    status flight_status NOT NULL,
    aircraft_code character(3) NOT NULL REFERENCES aircrafts_data (aircraft_code),
    actual_departure timestamp with time zone,
    actual_arrival timestamp with time zone,
    CHECK (scheduled_arrival > scheduled_departure),
    CHECK (actual_arrival IS NULL OR (actual_departure IS NOT NULL AND actual_arrival > actual_departure)),
    UNIQUE (flight_no, scheduled_departure)
);
CREATE TABLE seats (
    aircraft_code character(3) NOT NULL REFERENCES aircrafts_data (aircraft_code) ON DELETE CASCADE,
    seat_no character varying(4) NOT NULL,
    fare_conditions character varying(10) NOT NULL CHECK (fare_conditions IN ('Economy', 'Comfort', 'Business')),
    PRIMARY KEY (aircraft_code, seat_no)
);
CREATE TABLE tickets (
    ticket_no character(13) NOT NULL PRIMARY KEY,
    book_ref character(6) NOT NULL REFERENCES bookings (book_ref),
    passenger_id character varying(20) NOT NULL,
    passenger_name text NOT NULL,
    contact_data jsonb
);
CREATE TABLE ticket_flights (
    ticket_no character(13) NOT NULL REFERENCES tickets (ticket_no),
    flight_id integer NOT NULL REFERENCES flights (flight_id),
    fare_conditions character varying(10) NOT NULL,
    amount numeric(10,2) NOT NULL CHECK (amount >= 0),
    PRIMARY KEY (ticket_no, flight_id)
);
CREATE TABLE boarding_passes (
    ticket_no character(13) NOT NULL,
    flight_id integer NOT NULL,
    boarding_no integer NOT NULL,
    seat_no character varying(4) NOT NULL,
    PRIMARY KEY (ticket_no, flight_id),
    UNIQUE (flight_id, boarding_no),
    UNIQUE (flight_id, seat_no),
    FOREIGN KEY (ticket_no, flight_id) REFERENCES ticket_flights (ticket_no, flight_id)
);
CREATE TABLE baggage_events (
    ticket_no character(13) NOT NULL,
    flight_id integer NOT NULL,
    seq smallint NOT NULL,
    weight double precision,
    noted_at timestamptz(3) NOT NULL,
    PRIMARY KEY (ticket_no, flight_id, seq),
    FOREIGN KEY (ticket_no, flight_id) REFERENCES boarding_passes ON DELETE CASCADE
);
CREATE VIEW aircrafts AS SELECT aircraft_code, model ->> lang() AS model, range FROM aircrafts_data;
CREATE VIEW airports AS SELECT airport_code, airport_name ->> lang() AS airport_name, coordinates, timezone FROM airports_data;

INSERT INTO aircrafts_data VALUES ('773', '{"en": "Boeing 777", "de": "Boeing 777"}', 11100), ('SU9', '{"en": "Superjet"}', 3000), ('CN1', '{}', 1200);
INSERT INTO airports_data VALUES ('OSL', '{"en": "Oslo"}', '{"en": "Oslo"}', '(11.1,60.2)', 'Europe/Oslo'), ('LIS', '{"en": "Lisbon", "pt": "Lisboa"}', '{"en": "Lisbon"}', '(-9.13,38.78)', 'Europe/Lisbon'), ('KEF', '{"en": null}', '[1, 2.5, "x"]', '(0,0)', 'Atlantic/Reykjavik');
INSERT INTO bookings VALUES ('00000F', '2017-07-05 00:12:00+00', 265700.00), ('000012', '2017-07-14 06:02:00+00', 37900.00), ('FFF', '2017-07-14 06:02:00+00', 0);
INSERT INTO flights VALUES
    (1, 'PG0405', '2017-07-16 06:35:00+00', '2017-07-16 07:30:00+00', 'OSL', 'LIS', 'Arrived', '773', '2017-07-16 06:44:00+00', '2017-07-16 07:39:00+00'),
    (2, 'PG0405', '2017-07-17 06:35:00+00', '2017-07-17 07:30:00+00', 'OSL', 'LIS', 'On Time', '773', NULL, NULL),
    (3, 'PG04', '2017-08-01 06:35:00+00', '2017-08-01 17:30:00+00', 'LIS', 'OSL', 'Cancelled', 'SU9', NULL, NULL);
INSERT INTO seats VALUES ('773', '1A', 'Business'), ('773', '12C', 'Economy'), ('SU9', '1A', 'Business');
INSERT INTO tickets VALUES ('0005432000987', '00000F', '8149 604011', 'VERA V', '{"phone": "+70127117011"}'), ('0005432000988', '00000F', '8499 420203', 'EVA I', NULL), ('0005432000989', '000012', '1', 'X', '{"email": "x@example.org", "tags": [1, null, {"a": true}]}');
INSERT INTO ticket_flights VALUES ('0005432000987', 1, 'Economy', 6200), ('0005432000987', 2, 'Business', 18500.50), ('0005432000988', 1, 'Economy', 0);
INSERT INTO boarding_passes VALUES ('0005432000987', 1, 1, '12C'), ('0005432000988', 1, 2, '1A');
INSERT INTO baggage_events VALUES ('0005432000987', 1, 1, 12.75, '2017-07-16 05:00:00.123+00'), ('0005432000987', 1, 2, NULL, '2017-07-16 08:00:00+00');
