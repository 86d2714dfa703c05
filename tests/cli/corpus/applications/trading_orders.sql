-- An import/export trading company: smallint keys, fixed char keys, natural text keys, a self reference among employees.
CREATE TABLE categories (
    category_id smallint NOT NULL PRIMARY KEY,
    category_name character varying(15) NOT NULL,
    description text,
    picture bytea
);
CREATE TABLE customer_demographics (
    customer_type_id character(5) NOT NULL PRIMARY KEY,
    customer_desc text
);
CREATE TABLE customers (
    customer_id character(5) NOT NULL PRIMARY KEY,
    company_name character varying(40) NOT NULL,
    contact_name character varying(30),
    city character varying(15),
    region character varying(15),
    country character varying(15),
    phone character varying(24)
);
CREATE TABLE customer_customer_demo (
    customer_id character(5) NOT NULL REFERENCES customers,
    customer_type_id character(5) NOT NULL REFERENCES customer_demographics,
    PRIMARY KEY (customer_id, customer_type_id)
);
CREATE TABLE employees (
    employee_id smallint NOT NULL PRIMARY KEY,
    last_name character varying(20) NOT NULL,
    first_name character varying(10) NOT NULL,
    title_of_courtesy character varying(25),
    birth_date date,
    hire_date date,
    photo bytea,
    notes text,
    reports_to smallint REFERENCES employees,
    photo_path character varying(255)
);
CREATE TABLE suppliers (
    supplier_id smallint NOT NULL PRIMARY KEY,
    company_name character varying(40) NOT NULL,
    homepage text
);
CREATE TABLE products (
    product_id smallint NOT NULL PRIMARY KEY,
    product_name character varying(40) NOT NULL,
    supplier_id smallint REFERENCES suppliers,
    category_id smallint REFERENCES categories,
    quantity_per_unit character varying(20),
    unit_price real,
    units_in_stock smallint,
    reorder_level smallint,
    discontinued integer NOT NULL
);
CREATE TABLE region (
    region_id smallint NOT NULL PRIMARY KEY,
    region_description character(60) NOT NULL
);
CREATE TABLE territories (
    territory_id character varying(20) NOT NULL PRIMARY KEY,
    territory_description character(60) NOT NULL,
    region_id smallint NOT NULL REFERENCES region
);
CREATE TABLE employee_territories (
    employee_id smallint NOT NULL REFERENCES employees,
    territory_id character varying(20) NOT NULL REFERENCES territories,
    PRIMARY KEY (employee_id, territory_id)
);
CREATE TABLE shippers (
    shipper_id smallint NOT NULL PRIMARY KEY,
    company_name character varying(40) NOT NULL,
    phone character varying(24)
);
CREATE TABLE orders (
    order_id smallint NOT NULL PRIMARY KEY,
    customer_id character(5) REFERENCES customers,
    employee_id smallint REFERENCES employees,
    order_date date,
    required_date date,
    shipped_date date,
    ship_via smallint REFERENCES shippers,
    freight real,
    ship_name character varying(40)
);
CREATE TABLE order_details (
    order_id smallint NOT NULL REFERENCES orders,
    product_id smallint NOT NULL REFERENCES products,
    unit_price real NOT NULL,
    quantity smallint NOT NULL CHECK (quantity > 0),
    discount real NOT NULL,
    PRIMARY KEY (order_id, product_id)
);
CREATE TABLE us_states (
    state_id smallint NOT NULL PRIMARY KEY,
    state_name character varying(100),
    state_abbr character varying(2),
    state_region character varying(50)
);
CREATE VIEW order_subtotals AS SELECT order_id, sum(unit_price * quantity * (1 - discount)) AS subtotal FROM order_details GROUP BY order_id;

INSERT INTO categories VALUES (1, 'Drinks', 'Tea, coffee, beer', '\x'), (2, 'Sauces', NULL, NULL), (3, 'Sweets', 'Cakes', '\xdeadbeef');
INSERT INTO customer_demographics VALUES ('RETL', 'Retail'), ('WHOLE', NULL);
INSERT INTO customers VALUES ('ALPHA', 'Alpha Foods', 'Ann Lee', 'Berlin', NULL, 'Germany', '030-1'), ('BETA', 'Beta Market', NULL, NULL, NULL, NULL, NULL), ('GAMMA', 'Gamma', 'G. O''Neil', 'Cork', 'Co. Cork', 'Ireland', '');
INSERT INTO customer_customer_demo VALUES ('ALPHA', 'RETL'), ('ALPHA', 'WHOLE'), ('BETA', 'RETL');
INSERT INTO employees VALUES (2, 'Ford', 'Andrew', 'Dr.', '1952-02-19', '1992-08-14', '\x01ff', 'Head', NULL, NULL), (1, 'Dale', 'Nancy', 'Ms.', '1948-12-08', NULL, NULL, NULL, 2, 'http://example.org/d.bmp'), (3, 'Lever', 'Janet', NULL, NULL, NULL, NULL, NULL, 2, NULL);
INSERT INTO suppliers VALUES (1, 'Exotic Drinks', NULL), (2, 'Delta Sauces', '#DELTA#');
INSERT INTO products VALUES (1, 'Chai', 1, 1, '10 boxes x 20 bags', 18, 39, 10, 0), (2, 'Stout', 1, 1, NULL, 19.25, NULL, NULL, 1), (3, 'Unknown', NULL, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO region VALUES (1, 'Eastern'), (2, 'Western');
INSERT INTO territories VALUES ('01581', 'Westboro', 1), ('01730', 'Bedford', 1);
INSERT INTO employee_territories VALUES (1, '01581'), (1, '01730'), (2, '01581');
INSERT INTO shippers VALUES (1, 'Speedy', '(503) 555-0131'), (2, 'United', NULL);
INSERT INTO orders VALUES (10248, 'ALPHA', 1, '1996-07-04', '1996-08-01', '1996-07-16', 1, 32.38, 'Alpha'), (10249, 'ALPHA', 2, '1996-07-05', NULL, NULL, 1, 0.1, NULL), (10250, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO order_details VALUES (10248, 1, 14, 12, 0), (10248, 2, 9.8, 10, 0.15), (10249, 1, 34.8, 5, 0.05);
INSERT INTO us_states VALUES (1, 'Alabama', 'AL', 'south'), (2, NULL, NULL, NULL);
