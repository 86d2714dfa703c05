-- A publishing blog: 24-character object ids, post/author and post/tag junctions with sort order, members and newsletters.
CREATE TYPE post_status AS ENUM ('draft', 'published', 'scheduled', 'sent');
CREATE TABLE newsletters (id varchar(24) NOT NULL PRIMARY KEY, uuid uuid NOT NULL UNIQUE, slug varchar(191) NOT NULL UNIQUE, name varchar(191) NOT NULL, sort_order integer NOT NULL DEFAULT 0, background_color varchar(50) NOT NULL DEFAULT 'light');
CREATE TABLE posts (
    id varchar(24) NOT NULL PRIMARY KEY,
    uuid uuid NOT NULL DEFAULT gen_random_uuid(),
    title varchar(2000) NOT NULL,
    slug varchar(191) NOT NULL,
    mobiledoc text,
    lexical json,
    feature_image varchar(2000),
    featured boolean NOT NULL DEFAULT false,
    type varchar(50) NOT NULL DEFAULT 'post' CHECK (type IN ('post', 'page')),
    status post_status NOT NULL DEFAULT 'draft',
    published_at timestamp(0),
    newsletter_id varchar(24) REFERENCES newsletters (id),
    UNIQUE (slug, type)
);
CREATE TABLE posts_meta (
    id varchar(24) NOT NULL PRIMARY KEY,
    post_id varchar(24) NOT NULL UNIQUE REFERENCES posts (id),
    og_title varchar(300),
    email_only boolean NOT NULL DEFAULT false
);
CREATE TABLE users (id varchar(24) NOT NULL PRIMARY KEY, name varchar(191) NOT NULL, slug varchar(191) NOT NULL UNIQUE, email varchar(191) NOT NULL UNIQUE, last_seen timestamp(0), accessibility text);
CREATE TABLE posts_authors (
    id varchar(24) NOT NULL PRIMARY KEY,
    post_id varchar(24) NOT NULL REFERENCES posts (id),
    author_id varchar(24) NOT NULL REFERENCES users (id),
    sort_order integer NOT NULL DEFAULT 0
);
CREATE TABLE roles (id varchar(24) NOT NULL PRIMARY KEY, name varchar(50) NOT NULL UNIQUE, description varchar(2000));
CREATE TABLE roles_users (id varchar(24) NOT NULL PRIMARY KEY, role_id varchar(24) NOT NULL REFERENCES roles, user_id varchar(24) NOT NULL UNIQUE REFERENCES users);
CREATE TABLE tags (
    id varchar(24) NOT NULL PRIMARY KEY,
    name varchar(191) NOT NULL,
    slug varchar(191) NOT NULL UNIQUE,
    parent_id varchar(24) REFERENCES tags (id),
    visibility varchar(50) NOT NULL DEFAULT 'public'
);
CREATE TABLE posts_tags (
    id varchar(24) NOT NULL PRIMARY KEY,
    post_id varchar(24) NOT NULL REFERENCES posts (id),
    tag_id varchar(24) NOT NULL REFERENCES tags (id),
    sort_order integer NOT NULL DEFAULT 0
);
CREATE TABLE members (id varchar(24) NOT NULL PRIMARY KEY, uuid uuid UNIQUE, transient_id varchar(191) NOT NULL UNIQUE, email varchar(191) NOT NULL UNIQUE, geolocation varchar(2000), email_open_rate integer, enable_comments boolean NOT NULL DEFAULT true);
CREATE INDEX members_email_open_rate ON members (email_open_rate DESC) WHERE email_open_rate IS NOT NULL;
CREATE TABLE members_newsletters (id varchar(24) NOT NULL PRIMARY KEY, member_id varchar(24) NOT NULL REFERENCES members ON DELETE CASCADE, newsletter_id varchar(24) NOT NULL REFERENCES newsletters ON DELETE CASCADE);
CREATE TABLE comments (
    id varchar(24) NOT NULL PRIMARY KEY,
    post_id varchar(24) NOT NULL REFERENCES posts ON DELETE CASCADE,
    member_id varchar(24) REFERENCES members ON DELETE SET NULL,
    parent_id varchar(24) REFERENCES comments ON DELETE CASCADE,
    html text,
    edited_at timestamp(0)
);
CREATE TABLE settings (id varchar(24) NOT NULL PRIMARY KEY, "group" varchar(50) NOT NULL DEFAULT 'core', key varchar(50) NOT NULL UNIQUE, value text, type varchar(50) NOT NULL);
INSERT INTO newsletters VALUES ('n00000000000000000000001', '8f2f2a4e-6f0e-4a3f-9d87-0e4f3c1d5a01', 'weekly', 'Weekly', 0, 'light'), ('n00000000000000000000002', '8f2f2a4e-6f0e-4a3f-9d87-0e4f3c1d5a02', 'daily', 'Daily', -1, 'dark');
INSERT INTO posts VALUES
    ('p1', '00000000-0000-0000-0000-000000000001', 'Hello', 'hello', '{}', '{"root":  {"children": []}}', NULL, true, 'post', 'sent', '2024-01-01 10:00:00', 'n00000000000000000000001'),
    ('p2', '00000000-0000-0000-0000-000000000002', 'About', 'about', NULL, NULL, 'a.png', false, 'page', 'draft', NULL, NULL),
    ('p3', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'About', 'about', NULL, '1', NULL, false, 'post', 'scheduled', '2030-01-01', 'n00000000000000000000001');
INSERT INTO posts_meta VALUES ('m1', 'p1', 'OG', true), ('m2', 'p2', NULL, false);
INSERT INTO users VALUES ('1', 'Ghost', 'ghost', 'g@example.org', NULL, '{"nav": 1}'), ('2', 'Ann', 'ann', 'a@example.org', '2024-01-01', NULL);
INSERT INTO posts_authors VALUES ('pa1', 'p1', '1', 0), ('pa2', 'p1', '2', 1), ('pa3', 'p2', '1', 0);
INSERT INTO roles VALUES ('r1', 'Owner', NULL), ('r2', 'Editor', 'Edits'), ('r3', 'Contributor', '');
INSERT INTO roles_users VALUES ('ru1', 'r1', '1'), ('ru2', 'r1', '2');
INSERT INTO tags VALUES ('t1', 'News', 'news', NULL, 'public'), ('t2', 'Local', 'local', 't1', 'public'), ('t3', '#x', 'hash-x', 't1', 'internal');
INSERT INTO posts_tags VALUES ('pt1', 'p1', 't1', 0), ('pt2', 'p1', 't2', 1), ('pt3', 'p2', 't1', 0);
INSERT INTO members VALUES ('mb1', '00000000-0000-0000-0000-00000000000a', 'tr1', 'm@example.org', '{"country":"NO"}', 80, true), ('mb2', NULL, 'tr2', 'n@example.org', NULL, NULL, false);
INSERT INTO members_newsletters VALUES ('mn1', 'mb1', 'n00000000000000000000001'), ('mn2', 'mb1', 'n00000000000000000000002');
INSERT INTO comments VALUES ('c1', 'p1', 'mb1', NULL, '<p>1</p>', NULL), ('c2', 'p1', NULL, 'c1', NULL, '2024-02-02 00:00:01'), ('c3', 'p1', 'mb1', 'c1', '', NULL);
INSERT INTO settings VALUES ('s1', 'core', 'title', 'My blog', 'string'), ('s2', 'site', 'logo', NULL, 'string');
