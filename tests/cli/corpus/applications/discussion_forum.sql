-- A discussion forum in the Rails manner: schema_migrations, polymorphic columns, jsonb and array columns, partial and expression indexes.
-- NOTE table posts, column search_data: left out, because the server computes it (GENERATED ALWAYS AS)
-- NOTE table users, column username_lower: left out, because the server computes it (GENERATED ALWAYS AS)
CREATE EXTENSION IF NOT EXISTS hstore;
CREATE TABLE schema_migrations (version character varying NOT NULL, PRIMARY KEY (version));
CREATE TABLE ar_internal_metadata (key character varying NOT NULL PRIMARY KEY, value character varying, created_at timestamp(6) without time zone NOT NULL, updated_at timestamp(6) without time zone NOT NULL);
CREATE TABLE users (
    id serial PRIMARY KEY,
    username character varying(60) NOT NULL,
    username_lower character varying(60) GENERATED ALWAYS AS (lower(username)) STORED,
    name character varying,
    admin boolean DEFAULT false NOT NULL,
    trust_level integer NOT NULL DEFAULT 0,
    ip_address inet,
    registration_ip_address inet,
    previous_visit_at timestamp without time zone,
    primary_group_id integer,
    uploaded_avatar_id integer,
    created_at timestamp without time zone NOT NULL,
    updated_at timestamp without time zone NOT NULL
);
CREATE UNIQUE INDEX index_users_on_username_lower ON users (lower(username));
CREATE TABLE uploads (
    id serial PRIMARY KEY,
    user_id integer NOT NULL REFERENCES users (id),
    original_filename character varying NOT NULL,
    filesize bigint NOT NULL,
    width integer,
    sha1 character varying(40),
    dominant_color text,
    animated boolean
);
ALTER TABLE users ADD CONSTRAINT fk_rails_avatar FOREIGN KEY (uploaded_avatar_id) REFERENCES uploads (id) ON DELETE SET NULL;
CREATE UNIQUE INDEX index_uploads_on_sha1 ON uploads (sha1) WHERE sha1 IS NOT NULL;
CREATE TABLE groups (
    id serial PRIMARY KEY,
    name character varying NOT NULL,
    automatic boolean NOT NULL DEFAULT false,
    flair_icon character varying
);
CREATE UNIQUE INDEX index_groups_on_name ON groups (name);
ALTER TABLE users ADD CONSTRAINT fk_rails_group FOREIGN KEY (primary_group_id) REFERENCES groups (id);
CREATE TABLE group_users (
    id serial PRIMARY KEY,
    group_id integer NOT NULL REFERENCES groups,
    user_id integer NOT NULL REFERENCES users,
    owner boolean NOT NULL DEFAULT false,
    notification_level integer NOT NULL DEFAULT 2
);
CREATE UNIQUE INDEX index_group_users_on_group_id_and_user_id ON group_users (group_id, user_id);
CREATE TABLE categories (
    id serial PRIMARY KEY,
    name character varying(50) NOT NULL,
    color character varying(6) NOT NULL DEFAULT '0088CC',
    parent_category_id integer REFERENCES categories (id),
    user_id integer NOT NULL REFERENCES users,
    topic_id integer,
    position integer,
    custom hstore
);
CREATE UNIQUE INDEX unique_index_categories_on_name ON categories (COALESCE(parent_category_id, '-1'::integer), lower(name));
CREATE TABLE topics (
    id serial PRIMARY KEY,
    title character varying NOT NULL,
    user_id integer REFERENCES users ON DELETE SET NULL,
    category_id integer REFERENCES categories,
    archetype character varying NOT NULL DEFAULT 'regular',
    score double precision,
    percent_rank double precision NOT NULL DEFAULT 1.0,
    deleted_at timestamp without time zone,
    bumped_at timestamp without time zone NOT NULL
);
ALTER TABLE categories ADD CONSTRAINT fk_rails_topic FOREIGN KEY (topic_id) REFERENCES topics (id);
CREATE INDEX idx_topics_front_page ON topics (deleted_at, category_id, id) WHERE deleted_at IS NULL;
CREATE TABLE posts (
    id serial PRIMARY KEY,
    user_id integer REFERENCES users,
    topic_id integer NOT NULL REFERENCES topics ON DELETE CASCADE,
    post_number integer NOT NULL,
    raw text NOT NULL,
    cooked text NOT NULL,
    reply_to_post_id integer REFERENCES posts,
    raw_email bytea,
    search_data tsvector GENERATED ALWAYS AS (to_tsvector('simple', raw)) STORED
);
CREATE UNIQUE INDEX index_posts_on_topic_id_and_post_number ON posts (topic_id, post_number);
CREATE INDEX idx_posts_search ON posts USING gin (search_data);
CREATE TABLE tags (id serial PRIMARY KEY, name varchar NOT NULL, target_tag_id integer REFERENCES tags);
CREATE TABLE topic_tags (topic_id integer NOT NULL REFERENCES topics, tag_id integer NOT NULL REFERENCES tags, created_at timestamp NOT NULL, PRIMARY KEY (topic_id, tag_id));
CREATE TABLE bookmarks (
    id bigserial PRIMARY KEY,
    user_id bigint NOT NULL,
    bookmarkable_id integer,
    bookmarkable_type character varying,
    reminder_at timestamp
);
CREATE UNIQUE INDEX idx_bookmarks_user_polymorphic ON bookmarks (user_id, bookmarkable_type, bookmarkable_id);
CREATE TABLE topic_users (
    user_id integer NOT NULL REFERENCES users ON DELETE CASCADE,
    topic_id integer NOT NULL REFERENCES topics ON DELETE CASCADE,
    last_read_post_id integer REFERENCES posts,
    total_msecs_viewed bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, topic_id)
);

INSERT INTO schema_migrations VALUES ('20000225050318'), ('20240101000000');
INSERT INTO ar_internal_metadata VALUES ('environment', 'test', '2024-01-01', '2024-01-01 01:02:03.456789');
INSERT INTO groups VALUES (1, 'admins', true, NULL), (2, 'staff', false, 'star');
INSERT INTO users (id, username, name, admin, ip_address, registration_ip_address, previous_visit_at, primary_group_id, created_at, updated_at) VALUES
    (1, 'Sam', 'Sam S', true, '192.168.0.1', '10.0.0.0/8', '2024-01-01', 1, '2024-01-01', '2024-01-01'),
    (2, 'rOb', NULL, false, '2001:db8::1', NULL, NULL, 1, '2024-01-02', '2024-01-02 10:00:00'), (3, 'eve', '', false, NULL, NULL, NULL, NULL, '2024-01-02', '2024-01-02');
INSERT INTO uploads VALUES (1, 1, 'a.png', 5000000000, 10, 'da39a3ee5e6b4b0d3255bfef95601890afd80709', 'FFFFFF', true), (2, 1, 'b.gif', 0, NULL, NULL, NULL, NULL);
UPDATE users SET uploaded_avatar_id = 1 WHERE id IN (1, 2);
INSERT INTO group_users VALUES (1, 1, 1, true, 3), (2, 1, 2, false, 2);
INSERT INTO categories VALUES (1, 'General', 'FF0000', NULL, 1, NULL, 0, 'a=>1, b=>NULL'), (2, 'Support', '00FF00', 1, 1, NULL, NULL, NULL), (3, 'Lounge', '0000FF', 1, 2, NULL, 2, '');
INSERT INTO topics VALUES (1, 'Welcome', 1, 1, 'regular', 1.5, 0.25, NULL, '2024-01-01'), (2, 'Help', NULL, 1, 'regular', NULL, 1, '2024-02-01', '2024-01-02'), (3, 'PM', 1, NULL, 'private_message', NULL, 1, NULL, '2024-01-02');
UPDATE categories SET topic_id = 1 WHERE id = 1;
INSERT INTO posts (id, user_id, topic_id, post_number, raw, cooked, reply_to_post_id, raw_email) VALUES (1, 1, 1, 1, 'hello world', '<p>hello</p>', NULL, NULL), (2, 2, 1, 2, 'hi back', '<p>hi</p>', 1, '\x00ff10'), (3, NULL, 1, 3, '', '', 1, NULL);
INSERT INTO tags VALUES (1, 'news', NULL), (2, 'new', 1), (3, 'newz', 1);
INSERT INTO topic_tags VALUES (1, 1, '2024-01-01'), (1, 2, '2024-01-01'), (2, 1, '2024-01-01');
INSERT INTO bookmarks VALUES (1, 1, 1, 'Post', NULL), (2, 1, 1, 'Topic', '2024-03-01 08:00:00'), (3, 2, NULL, NULL, NULL);
INSERT INTO topic_users VALUES (1, 1, 3, 1000), (2, 1, NULL, 0), (1, 2, NULL, 9000000000);
