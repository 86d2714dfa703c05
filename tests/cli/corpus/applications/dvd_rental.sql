-- A DVD rental shop: enum, domain, arrays, tsvector, a payment table partitioned by month, views and a circular store/staff pair.
-- NOTE table film, column fulltext: left out, because the server computes it (GENERATED ALWAYS AS)
CREATE TYPE mpaa_rating AS ENUM ('G', 'PG', 'PG-13', 'R', 'NC-17');
CREATE DOMAIN year AS integer CONSTRAINT year_check CHECK (VALUE >= 1901 AND VALUE <= 2155);
CREATE DOMAIN bigint_pos AS bigint CHECK (VALUE > 0);
CREATE FUNCTION last_updated() RETURNS trigger LANGUAGE plpgsql AS $_$
BEGIN
    NEW.last_update = CURRENT_TIMESTAMP;
    RETURN NEW;
END $_$;
CREATE TABLE country (
    country_id serial PRIMARY KEY,
    country text NOT NULL,
    last_update timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE city (
    city_id serial PRIMARY KEY,
    city text NOT NULL,
    country_id integer NOT NULL REFERENCES country ON UPDATE CASCADE ON DELETE RESTRICT,
    last_update timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE address (
    address_id serial PRIMARY KEY,
    address text NOT NULL,
    address2 text,
    district text NOT NULL,
    city_id integer NOT NULL REFERENCES city ON UPDATE CASCADE ON DELETE RESTRICT,
    postal_code varchar(10),
    phone text NOT NULL,
    location point,
    last_update timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE language (
    language_id serial PRIMARY KEY,
    name character(20) NOT NULL,
    last_update timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE film (
    film_id serial PRIMARY KEY,
    title text NOT NULL,
    description text,
    release_year year,
    language_id integer NOT NULL REFERENCES language ON UPDATE CASCADE ON DELETE RESTRICT,
    original_language_id integer REFERENCES language ON UPDATE CASCADE ON DELETE RESTRICT,
    rental_duration smallint NOT NULL DEFAULT 3,
    rental_rate numeric(4,2) NOT NULL DEFAULT 4.99,
    length smallint,
    replacement_cost numeric(5,2) NOT NULL DEFAULT 19.99,
    rating mpaa_rating DEFAULT 'G',
    special_features text[],
    fulltext tsvector GENERATED ALWAYS AS (to_tsvector('english'::regconfig, title || ' ' || coalesce(description, ''))) STORED,
    last_update timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX film_fulltext_idx ON film USING gist (fulltext);
CREATE INDEX idx_title ON film (title);
CREATE TABLE actor (
    actor_id serial PRIMARY KEY,
    first_name text NOT NULL,
    last_name text NOT NULL,
    last_update timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE film_actor (
    actor_id integer NOT NULL REFERENCES actor ON UPDATE CASCADE ON DELETE RESTRICT,
    film_id integer NOT NULL REFERENCES film ON UPDATE CASCADE ON DELETE RESTRICT,
    last_update timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (actor_id, film_id)
);
CREATE TABLE category (
    category_id serial PRIMARY KEY,
    name text NOT NULL,
    last_update timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE film_category (
    film_id integer NOT NULL REFERENCES film,
    category_id integer NOT NULL REFERENCES category,
    last_update timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (film_id, category_id)
);
CREATE TABLE store (
    store_id serial PRIMARY KEY,
    manager_staff_id integer NOT NULL,
    address_id integer NOT NULL REFERENCES address,
    last_update timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX idx_unq_manager_staff_id ON store (manager_staff_id);
CREATE TABLE staff (
    staff_id serial PRIMARY KEY,
    first_name text NOT NULL,
    last_name text NOT NULL,
    address_id integer NOT NULL REFERENCES address,
    email text,
    store_id integer NOT NULL REFERENCES store DEFERRABLE INITIALLY DEFERRED,
    active boolean NOT NULL DEFAULT true,
    username text NOT NULL,
    password text,
    picture bytea,
    last_update timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE store ADD CONSTRAINT store_manager_staff_id_fkey FOREIGN KEY (manager_staff_id) REFERENCES staff (staff_id) DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE customer (
    customer_id serial PRIMARY KEY,
    store_id integer NOT NULL REFERENCES store,
    first_name text NOT NULL,
    last_name text NOT NULL,
    email text,
    address_id integer NOT NULL REFERENCES address,
    activebool boolean NOT NULL DEFAULT true,
    create_date date NOT NULL DEFAULT CURRENT_DATE,
    last_update timestamptz DEFAULT now(),
    active integer
);
CREATE TABLE inventory (
    inventory_id serial PRIMARY KEY,
    film_id integer NOT NULL REFERENCES film,
    store_id integer NOT NULL REFERENCES store,
    last_update timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_store_id_film_id ON inventory (store_id, film_id);
CREATE TABLE rental (
    rental_id serial PRIMARY KEY,
    rental_date timestamptz NOT NULL,
    inventory_id integer NOT NULL REFERENCES inventory,
    customer_id integer NOT NULL REFERENCES customer,
    return_date timestamptz,
    staff_id integer NOT NULL REFERENCES staff,
    last_update timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX idx_unq_rental ON rental (rental_date, inventory_id, customer_id);
CREATE TABLE payment (
    payment_id serial NOT NULL,
    customer_id integer NOT NULL REFERENCES customer,
    staff_id integer NOT NULL REFERENCES staff,
    rental_id integer NOT NULL REFERENCES rental,
    amount numeric(5,2) NOT NULL,
    payment_date timestamptz NOT NULL,
    PRIMARY KEY (payment_date, payment_id)
) PARTITION BY RANGE (payment_date);
CREATE TABLE payment_p2022_01 PARTITION OF payment FOR VALUES FROM ('2022-01-01 00:00:00+00') TO ('2022-02-01 00:00:00+00');
CREATE TABLE payment_p2022_02 PARTITION OF payment FOR VALUES FROM ('2022-02-01 00:00:00+00') TO ('2022-03-01 00:00:00+00');
CREATE TRIGGER last_updated BEFORE UPDATE ON actor FOR EACH ROW EXECUTE FUNCTION last_updated();
CREATE TRIGGER last_updated BEFORE UPDATE ON film FOR EACH ROW EXECUTE FUNCTION last_updated();
CREATE VIEW customer_list AS
    SELECT cu.customer_id AS id, (cu.first_name || ' ' || cu.last_name) AS name, a.address, a.postal_code AS "zip code", city.city, country.country
    FROM customer cu JOIN address a USING (address_id) JOIN city USING (city_id) JOIN country USING (country_id);
CREATE MATERIALIZED VIEW rental_by_category AS
    SELECT c.name AS category, count(*) AS films FROM category c JOIN film_category USING (category_id) GROUP BY c.name WITH NO DATA;

INSERT INTO country (country_id, country) VALUES (1, 'Canada'), (2, 'Norway'), (3, 'Chile');
INSERT INTO city (city_id, city, country_id) VALUES (1, 'Lethbridge', 1), (2, 'Toronto', 1), (3, 'Bergen', 2);
INSERT INTO address (address_id, address, address2, district, city_id, postal_code, phone, location) VALUES
    (1, '47 Long Drive', NULL, 'Alberta', 1, NULL, '', '(1.5,-2.25)'), (2, '28 Quay', 'Flat 2', 'Vestland', 3, '5003', '555-0100', NULL), (3, '9 Hill', '', 'Alberta', 1, 'T1H', '555-0101', NULL);
INSERT INTO language (language_id, name) VALUES (1, 'English'), (2, 'Italian'), (3, 'Mandarin');
INSERT INTO film (film_id, title, description, release_year, language_id, original_language_id, length, rating, special_features) VALUES
    (1, 'QUIET HARBOUR', 'A slow tale of a lighthouse', 2006, 1, NULL, 86, 'PG-13', '{Trailers,"Deleted Scenes"}'),
    (2, 'IRON GARDEN', NULL, NULL, 1, 2, NULL, NULL, NULL), (3, 'GREEN MILE MARKER', 'Cars', 1999, 2, 1, 120, 'NC-17', '{}');
INSERT INTO actor (actor_id, first_name, last_name) VALUES (1, 'ANNA', 'BERG'), (2, 'NICK', 'STONE'), (3, 'ED', 'CHASE');
INSERT INTO film_actor (actor_id, film_id) VALUES (1, 1), (1, 2), (2, 1);
INSERT INTO category (category_id, name) VALUES (1, 'Action'), (2, 'Drama'), (3, 'Music');
INSERT INTO film_category (film_id, category_id) VALUES (1, 1), (2, 1), (1, 2);
INSERT INTO store (store_id, manager_staff_id, address_id) VALUES (1, 1, 1), (2, 2, 2);
INSERT INTO staff (staff_id, first_name, last_name, address_id, email, store_id, username, picture) VALUES
    (1, 'Mike', 'Hill', 3, 'mike@example.org', 1, 'Mike', '\x89504e470d0a'), (2, 'Jo', 'Ste', 3, NULL, 2, 'Jo', NULL);
INSERT INTO customer (customer_id, store_id, first_name, last_name, email, address_id, active) VALUES
    (1, 1, 'MARY', 'SMITH', 'mary@example.org', 1, 1), (2, 1, 'PAT', 'JONES', NULL, 2, NULL);
INSERT INTO inventory (inventory_id, film_id, store_id) VALUES (1, 1, 1), (2, 1, 2), (3, 2, 1);
INSERT INTO rental (rental_id, rental_date, inventory_id, customer_id, return_date, staff_id) VALUES
    (1, '2022-01-14 21:00:00+00', 1, 1, '2022-01-20 10:30:00+00', 1), (2, '2022-02-02 08:15:30.5+02', 1, 1, NULL, 2);
INSERT INTO payment (payment_id, customer_id, staff_id, rental_id, amount, payment_date) VALUES
    (1, 1, 1, 1, 5.99, '2022-01-14 21:01:00+00'), (2, 1, 2, 1, 0.99, '2022-02-10 12:00:00+00'), (3, 1, 2, 2, 2.50, '2022-02-11 12:00:00+00');
