-- Subscription billing: plans with tiers, subscriptions over timestamp ranges that may not overlap, usage records with numeric quantities, invoices with a natural number key.
-- NOTE table invoice_items, column total_cents: left out, because the server computes it (GENERATED ALWAYS AS)
-- NOTE table invoices, column due: left out, because the server computes it (GENERATED ALWAYS AS)
CREATE EXTENSION IF NOT EXISTS btree_gist;
CREATE TYPE billing_interval AS ENUM ('day', 'week', 'month', 'year');
CREATE TYPE sub_status AS ENUM ('trialing', 'active', 'past_due', 'canceled');
CREATE TABLE accounts (id serial PRIMARY KEY, code varchar(50) NOT NULL UNIQUE, email varchar(255), parent_account_code varchar(50) REFERENCES accounts (code) ON UPDATE CASCADE ON DELETE SET NULL, tax_exempt boolean NOT NULL DEFAULT false, preferred_hours int4multirange);
CREATE TABLE plans (code varchar(50) PRIMARY KEY, name text NOT NULL, every billing_interval NOT NULL DEFAULT 'month', interval_count smallint NOT NULL DEFAULT 1, trial interval, amount_cents bigint NOT NULL, retired boolean);
CREATE TABLE plan_tiers (plan_code varchar(50) NOT NULL REFERENCES plans ON UPDATE CASCADE ON DELETE CASCADE, units int8range NOT NULL, unit_price numeric(16,8) NOT NULL, PRIMARY KEY (plan_code, units), EXCLUDE USING gist (plan_code WITH =, units WITH &&));
CREATE TABLE add_ons (id serial PRIMARY KEY, plan_code varchar(50) REFERENCES plans, name text NOT NULL, unique_code char(8) UNIQUE);
CREATE TABLE coupons (code text PRIMARY KEY, percent_off numeric(5,2), redeem_by date, applies_to varchar(50)[] );
CREATE TABLE subscriptions (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), account_id integer NOT NULL REFERENCES accounts, plan_code varchar(50) NOT NULL REFERENCES plans ON UPDATE CASCADE, status sub_status NOT NULL, during tstzrange NOT NULL, coupon text REFERENCES coupons ON DELETE SET NULL, EXCLUDE USING gist (account_id WITH =, plan_code WITH =, during WITH &&));
CREATE TABLE subscription_add_ons (subscription_id uuid NOT NULL REFERENCES subscriptions ON DELETE CASCADE, add_on_id integer NOT NULL REFERENCES add_ons, quantity integer NOT NULL DEFAULT 1, PRIMARY KEY (subscription_id, add_on_id));
CREATE TABLE usage_records (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, subscription_id uuid NOT NULL REFERENCES subscriptions, at timestamptz NOT NULL, quantity numeric NOT NULL, idempotency_key uuid UNIQUE);
CREATE TABLE invoices (number varchar(20) PRIMARY KEY, account_code varchar(50) NOT NULL REFERENCES accounts (code) ON UPDATE CASCADE, issued date NOT NULL, due date GENERATED ALWAYS AS (issued + 30) STORED, closed boolean NOT NULL DEFAULT false, corrects varchar(20) REFERENCES invoices (number));
CREATE TABLE invoice_items (invoice_number varchar(20) NOT NULL REFERENCES invoices ON DELETE CASCADE, position smallint NOT NULL, subscription_id uuid REFERENCES subscriptions, add_on_id integer, quantity integer NOT NULL, unit_cents bigint NOT NULL, total_cents bigint GENERATED ALWAYS AS (quantity * unit_cents) STORED, PRIMARY KEY (invoice_number, position), FOREIGN KEY (subscription_id, add_on_id) REFERENCES subscription_add_ons (subscription_id, add_on_id));
CREATE TABLE dunning_attempts (id serial PRIMARY KEY, invoice_number varchar(20) NOT NULL REFERENCES invoices, attempted_at timestamp NOT NULL, error text);
INSERT INTO accounts VALUES (1, 'acme', 'a@example.org', NULL, false, '{[1,3),[7,9)}'), (2, 'acme-west', NULL, 'acme', true, '{}'), (3, 'acme-east', NULL, 'acme', true, NULL);
INSERT INTO plans VALUES ('gold', 'Gold', 'month', 1, '14 days', 4900, false), ('iron', 'Iron', 'year', 2, NULL, 0, NULL);
INSERT INTO plan_tiers VALUES ('gold', '[1,100)', 0.01), ('gold', '[100,)', 0.00500001), ('iron', '(,)', 0);
INSERT INTO add_ons VALUES (1, 'gold', 'Seats', 'SEAT'), (2, NULL, 'Help', NULL), (3, 'gold', 'Disk', 'DISK1234');
INSERT INTO coupons VALUES ('HALF', 50.00, '2024-12-31', '{gold,iron}'), ('NIX', NULL, NULL, NULL);
INSERT INTO subscriptions VALUES ('60000000-0000-0000-0000-000000000001', 1, 'gold', 'active', '["2024-01-01 00:00:00+00",)', 'HALF'), ('60000000-0000-0000-0000-000000000002', 1, 'iron', 'canceled', '["2023-01-01 00:00:00+00","2024-01-01 00:00:00+00")', NULL), ('60000000-0000-0000-0000-000000000003', 2, 'gold', 'trialing', '["2024-02-01 00:00:00+00","2024-03-01 00:00:00+00"]', 'HALF');
INSERT INTO subscription_add_ons VALUES ('60000000-0000-0000-0000-000000000001', 1, 5), ('60000000-0000-0000-0000-000000000001', 2, 1), ('60000000-0000-0000-0000-000000000003', 1, 2);
INSERT INTO usage_records (subscription_id, at, quantity, idempotency_key) VALUES ('60000000-0000-0000-0000-000000000001', '2024-01-05 10:00:00.000001+00', 1.2500, '61000000-0000-0000-0000-000000000001'), ('60000000-0000-0000-0000-000000000001', '2024-01-06 00:00:00+00', 1000000, NULL);
INSERT INTO invoices (number, account_code, issued, closed, corrects) VALUES ('2024-0001', 'acme', '2024-01-31', true, NULL), ('2024-0002', 'acme', '2024-02-29', false, '2024-0001'), ('2024-0003', 'acme-west', '2024-02-29', false, '2024-0001');
INSERT INTO invoice_items (invoice_number, position, subscription_id, add_on_id, quantity, unit_cents) VALUES ('2024-0001', 1, '60000000-0000-0000-0000-000000000001', NULL, 1, 4900), ('2024-0001', 2, '60000000-0000-0000-0000-000000000001', 1, 5, 300), ('2024-0002', 1, NULL, NULL, 3, -100), ('2024-0002', 2, '60000000-0000-0000-0000-000000000001', 1, 2, 300);
INSERT INTO dunning_attempts VALUES (1, '2024-0001', '2024-03-01 00:00:00', 'declined'), (2, '2024-0001', '2024-03-02 00:00:00', NULL);
