-- Composite keys of tenants: the tenant's column is a part of every key, and of several foreign keys of one table.
CREATE TABLE tenant (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE customer (tenant_id int NOT NULL REFERENCES tenant, id int NOT NULL, name text NOT NULL, PRIMARY KEY (tenant_id, id));
CREATE TABLE "order" (
  tenant_id int NOT NULL REFERENCES tenant, id int NOT NULL, customer_id int NOT NULL, payer_id int,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, customer_id) REFERENCES customer (tenant_id, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, payer_id) REFERENCES customer (tenant_id, id));
CREATE TABLE product (tenant_id int NOT NULL REFERENCES tenant, id int NOT NULL, sku text NOT NULL, PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, sku));
CREATE TABLE line (
  tenant_id int NOT NULL, order_id int NOT NULL, product_id int NOT NULL, count smallint NOT NULL,
  PRIMARY KEY (tenant_id, order_id, product_id),
  FOREIGN KEY (tenant_id, order_id) REFERENCES "order", FOREIGN KEY (tenant_id, product_id) REFERENCES product);
CREATE TABLE label (tenant_id int NOT NULL, sku text NOT NULL, language char(2) NOT NULL, text text NOT NULL,
  PRIMARY KEY (tenant_id, sku, language), FOREIGN KEY (tenant_id, sku) REFERENCES product (tenant_id, sku) ON UPDATE CASCADE);
INSERT INTO tenant VALUES (1, 'a'), (2, 'b');
INSERT INTO customer VALUES (1, 1, 'x'), (1, 2, 'y'), (2, 1, 'z');
INSERT INTO "order" VALUES (1, 1, 1, NULL), (1, 2, 1, 2), (2, 1, 1, 1);
INSERT INTO product VALUES (1, 1, 's1'), (1, 2, 's2'), (2, 1, 's1');
INSERT INTO line VALUES (1, 1, 1, 3), (1, 1, 2, 1), (2, 1, 1, 9);
INSERT INTO label VALUES (1, 's1', 'de', 'eins'), (1, 's1', 'en', 'one'), (2, 's1', 'en', 'uno');
