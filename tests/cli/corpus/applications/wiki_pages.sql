-- A wiki: pages, revisions, slots keyed by two columns, link tables with natural keys, bytea comments, timestamps with time zone.
CREATE DOMAIN namespace_no AS smallint;
CREATE SEQUENCE page_page_id_seq;
CREATE TABLE actor (actor_id bigserial PRIMARY KEY, actor_user integer UNIQUE, actor_name text NOT NULL UNIQUE);
CREATE TABLE mwuser (
    user_id serial PRIMARY KEY,
    user_name text NOT NULL UNIQUE,
    user_real_name text,
    user_password text,
    user_token text,
    user_email_token_expires timestamptz,
    user_touched timestamptz,
    user_editcount integer,
    user_is_temp smallint NOT NULL DEFAULT 0
);
ALTER TABLE actor ADD FOREIGN KEY (actor_user) REFERENCES mwuser (user_id) ON DELETE SET NULL;
CREATE TABLE user_groups (ug_user integer NOT NULL REFERENCES mwuser ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, ug_group text NOT NULL, ug_expiry timestamptz, PRIMARY KEY (ug_user, ug_group));
CREATE TABLE page (
    page_id integer NOT NULL DEFAULT nextval('page_page_id_seq') PRIMARY KEY,
    page_namespace namespace_no NOT NULL,
    page_title text NOT NULL,
    page_is_redirect smallint NOT NULL DEFAULT 0,
    page_random numeric(15,14) NOT NULL DEFAULT 0.5,
    page_touched timestamptz NOT NULL,
    page_latest bigint,
    page_len integer NOT NULL,
    page_content_model text,
    titlevector tsvector
);
ALTER SEQUENCE page_page_id_seq OWNED BY page.page_id;
CREATE UNIQUE INDEX page_unique_name ON page (page_namespace, page_title);
CREATE INDEX page_main_title ON page (page_title text_pattern_ops) WHERE page_namespace = 0;
CREATE TABLE comment (comment_id bigserial PRIMARY KEY, comment_hash integer NOT NULL, comment_text bytea NOT NULL, comment_data text);
CREATE TABLE revision (
    rev_id bigserial PRIMARY KEY,
    rev_page integer REFERENCES page (page_id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    rev_comment_id bigint NOT NULL REFERENCES comment,
    rev_actor bigint NOT NULL REFERENCES actor,
    rev_timestamp timestamptz NOT NULL,
    rev_minor_edit smallint NOT NULL DEFAULT 0,
    rev_len integer,
    rev_parent_id bigint REFERENCES revision,
    rev_sha1 varchar(32) NOT NULL DEFAULT ''
);
ALTER TABLE page ADD CONSTRAINT page_latest_fk FOREIGN KEY (page_latest) REFERENCES revision (rev_id) DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE slot_roles (role_id smallserial PRIMARY KEY, role_name text NOT NULL UNIQUE);
CREATE TABLE content_models (model_id smallserial PRIMARY KEY, model_name text NOT NULL UNIQUE);
CREATE TABLE content (content_id bigserial PRIMARY KEY, content_size bigint NOT NULL, content_sha1 varchar(32) NOT NULL, content_model smallint NOT NULL REFERENCES content_models, content_address text NOT NULL);
CREATE TABLE slots (
    slot_revision_id bigint NOT NULL REFERENCES revision,
    slot_role_id smallint NOT NULL REFERENCES slot_roles,
    slot_content_id bigint NOT NULL REFERENCES content,
    slot_origin bigint NOT NULL,
    PRIMARY KEY (slot_revision_id, slot_role_id)
);
CREATE TABLE linktarget (lt_id bigserial PRIMARY KEY, lt_namespace namespace_no NOT NULL, lt_title text NOT NULL, UNIQUE (lt_namespace, lt_title));
CREATE TABLE pagelinks (pl_from integer NOT NULL REFERENCES page, pl_target_id bigint NOT NULL REFERENCES linktarget, pl_from_namespace namespace_no NOT NULL DEFAULT 0, PRIMARY KEY (pl_from, pl_target_id));
CREATE TABLE page_props (pp_page integer NOT NULL REFERENCES page, pp_propname text NOT NULL, pp_value bytea NOT NULL, pp_sortkey real, PRIMARY KEY (pp_page, pp_propname));
CREATE TABLE redirect (rd_from integer PRIMARY KEY REFERENCES page, rd_namespace namespace_no NOT NULL, rd_title text NOT NULL, rd_interwiki varchar(32), FOREIGN KEY (rd_namespace, rd_title) REFERENCES linktarget (lt_namespace, lt_title));
CREATE TABLE ipblocks (ipb_id serial PRIMARY KEY, ipb_address cidr NOT NULL, ipb_user integer REFERENCES mwuser, ipb_by_actor bigint NOT NULL REFERENCES actor, ipb_expiry timestamptz, ipb_range_start inet);
CREATE FUNCTION page_titlevector() RETURNS trigger LANGUAGE plpgsql AS $mw$
BEGIN
    NEW.titlevector := to_tsvector('simple', replace(NEW.page_title, '/', ' '));
    RETURN NEW;
END;
$mw$;
CREATE TRIGGER page_titlevector BEFORE INSERT OR UPDATE ON page FOR EACH ROW EXECUTE FUNCTION page_titlevector();

INSERT INTO mwuser VALUES (1, 'Ann', 'Ann B', 'x', NULL, NULL, '2024-01-01 00:00:00+00', 3, 0), (2, 'Bob', NULL, NULL, NULL, NULL, NULL, NULL, 1);
INSERT INTO actor VALUES (1, 1, 'Ann'), (2, NULL, '192.0.2.1'), (3, 2, 'Bob');
INSERT INTO user_groups VALUES (1, 'sysop', NULL), (1, 'bot', '2030-01-01 00:00:00+00');
INSERT INTO page VALUES (1, 0, 'Main_Page', 0, 0.12345678901234, '2024-01-01 00:00:00+00', 2, 20, 'wikitext'), (2, 1, 'Talk/One', 1, 0.9, '2024-01-02 00:00:00+00', NULL, 0, NULL), (3, 0, 'Other', 1, 0, '2024-01-03 00:00:00+00', NULL, 0, NULL);
INSERT INTO comment VALUES (1, -12345, '\x', NULL), (2, 7, '\x68690a00ff', '{}');
INSERT INTO revision VALUES (1, 1, 1, 1, '2024-01-01 00:00:00+00', 0, 10, NULL, 'a'), (2, 1, 2, 2, '2024-01-01 01:00:00+00', 1, 20, 1, 'b'), (3, NULL, 1, 1, '2024-01-01 02:00:00+00', 0, NULL, 1, '');
INSERT INTO slot_roles VALUES (1, 'main'), (2, 'mediainfo');
INSERT INTO content_models VALUES (1, 'wikitext'), (2, 'json');
INSERT INTO content VALUES (1, 10, 'a', 1, 'tt:1'), (2, 20, 'b', 1, 'tt:2');
INSERT INTO slots VALUES (1, 1, 1, 1), (1, 2, 2, 1), (2, 1, 2, 2);
INSERT INTO linktarget VALUES (1, 0, 'Main_Page'), (2, 0, 'Missing'), (3, 1, 'X');
INSERT INTO pagelinks VALUES (1, 1, 0), (1, 2, 0), (2, 1, 1);
INSERT INTO page_props VALUES (1, 'displaytitle', '\x4869', NULL), (1, 'sort', '\x31', 1.5);
INSERT INTO redirect VALUES (2, 0, 'Main_Page', NULL), (3, 0, 'Main_Page', 'en');
INSERT INTO ipblocks VALUES (1, '192.0.2.0/24', NULL, 1, NULL, '192.0.2.0'), (2, '2001:db8::/64', 2, 1, '2030-01-01 00:00:00+00', NULL);
