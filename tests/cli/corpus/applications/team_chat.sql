-- Team chat: 26-character text keys without sequences, millisecond bigint times, jsonb props, junction tables with further columns.
CREATE TYPE team_type AS ENUM ('I', 'O');
CREATE TYPE channel_type AS ENUM ('P', 'G', 'O', 'D');
CREATE TYPE upload_session_type AS ENUM ('attachment', 'import');
CREATE TABLE users (
    id varchar(26) PRIMARY KEY,
    createat bigint,
    deleteat bigint,
    username varchar(64) UNIQUE,
    password varchar(128),
    email varchar(128) UNIQUE,
    props jsonb,
    notifyprops jsonb,
    failedattempts integer,
    mfaactive boolean,
    timezone jsonb
);
CREATE TABLE teams (
    id varchar(26) PRIMARY KEY,
    displayname varchar(64),
    name varchar(64) UNIQUE,
    type team_type,
    alloweddomains varchar(1000),
    cloudlimitsarchived boolean NOT NULL DEFAULT false
);
CREATE TABLE teammembers (
    teamid varchar(26) NOT NULL REFERENCES teams (id),
    userid varchar(26) NOT NULL REFERENCES users (id),
    roles varchar(256),
    deleteat bigint,
    schemeadmin boolean,
    PRIMARY KEY (teamid, userid)
);
CREATE TABLE channels (
    id varchar(26) PRIMARY KEY,
    teamid varchar(26) REFERENCES teams (id),
    creatorid varchar(26) REFERENCES users (id),
    type channel_type,
    displayname varchar(64),
    name varchar(64),
    header varchar(1024),
    bannerinfo jsonb,
    UNIQUE (name, teamid)
);
CREATE TABLE channelmembers (
    channelid varchar(26) NOT NULL REFERENCES channels (id),
    userid varchar(26) NOT NULL REFERENCES users (id),
    lastviewedat bigint,
    msgcount bigint,
    notifyprops jsonb,
    PRIMARY KEY (channelid, userid)
);
CREATE TABLE posts (
    id varchar(26) PRIMARY KEY,
    createat bigint,
    userid varchar(26) NOT NULL REFERENCES users (id),
    channelid varchar(26) NOT NULL REFERENCES channels (id),
    rootid varchar(26) REFERENCES posts (id),
    message varchar(65535),
    props jsonb,
    hashtags varchar(1000),
    filenames varchar(4000),
    ispinned boolean
);
CREATE INDEX idx_posts_message_txt ON posts USING gin (to_tsvector('english', message));
CREATE INDEX idx_posts_channel ON posts (channelid, createat DESC NULLS LAST) INCLUDE (userid);
CREATE TABLE reactions (
    userid varchar(26) NOT NULL REFERENCES users (id),
    postid varchar(26) NOT NULL REFERENCES posts (id),
    emojiname varchar(64) NOT NULL,
    createat bigint,
    channelid varchar(26) REFERENCES channels (id),
    PRIMARY KEY (postid, userid, emojiname)
);
CREATE TABLE threads (
    postid varchar(26) PRIMARY KEY REFERENCES posts (id) ON DELETE CASCADE,
    replycount bigint,
    participants jsonb
);
CREATE TABLE threadmemberships (
    postid varchar(26) NOT NULL REFERENCES threads (postid),
    userid varchar(26) NOT NULL REFERENCES users (id),
    following boolean,
    unreadmentions bigint,
    PRIMARY KEY (postid, userid)
);
CREATE TABLE fileinfo (
    id varchar(26) PRIMARY KEY,
    creatorid varchar(26) REFERENCES users (id),
    postid varchar(26) REFERENCES posts (id),
    size bigint,
    minipreview bytea,
    mimetype varchar(256)
);
CREATE TABLE preferences (
    userid varchar(26) NOT NULL REFERENCES users (id),
    category varchar(32) NOT NULL,
    name varchar(32) NOT NULL,
    value text,
    PRIMARY KEY (userid, category, name)
);
CREATE TABLE uploadsessions (id varchar(26) PRIMARY KEY, type upload_session_type, userid varchar(26) REFERENCES users (id), filesize bigint);
CREATE TABLE systems (name varchar(64) PRIMARY KEY, value varchar(1024));

INSERT INTO users VALUES ('u1aaaaaaaaaaaaaaaaaaaaaaaa', 1700000000000, 0, 'ann', 'h', 'ann@example.org', '{}', '{"push": "all"}', 0, false, '{"auto": true}'), ('u2aaaaaaaaaaaaaaaaaaaaaaaa', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), ('u3aaaaaaaaaaaaaaaaaaaaaaaa', 1, 1, 'cy', '', 'cy@example.org', 'null', '[]', 3, true, '"UTC"');
INSERT INTO teams VALUES ('t1aaaaaaaaaaaaaaaaaaaaaaaa', 'Core', 'core', 'O', '', false), ('t2aaaaaaaaaaaaaaaaaaaaaaaa', NULL, NULL, NULL, NULL, true);
INSERT INTO teammembers VALUES ('t1aaaaaaaaaaaaaaaaaaaaaaaa', 'u1aaaaaaaaaaaaaaaaaaaaaaaa', 'admin', 0, true), ('t1aaaaaaaaaaaaaaaaaaaaaaaa', 'u2aaaaaaaaaaaaaaaaaaaaaaaa', NULL, NULL, NULL);
INSERT INTO channels VALUES ('c1aaaaaaaaaaaaaaaaaaaaaaaa', 't1aaaaaaaaaaaaaaaaaaaaaaaa', 'u1aaaaaaaaaaaaaaaaaaaaaaaa', 'O', 'Town', 'town', 'h', '{"text": "hi"}'), ('c2aaaaaaaaaaaaaaaaaaaaaaaa', NULL, NULL, 'D', NULL, 'dm', NULL, NULL), ('c3aaaaaaaaaaaaaaaaaaaaaaaa', 't1aaaaaaaaaaaaaaaaaaaaaaaa', 'u1aaaaaaaaaaaaaaaaaaaaaaaa', 'P', NULL, 'off', NULL, NULL);
INSERT INTO channelmembers VALUES ('c1aaaaaaaaaaaaaaaaaaaaaaaa', 'u1aaaaaaaaaaaaaaaaaaaaaaaa', 5, 6, '{}'), ('c1aaaaaaaaaaaaaaaaaaaaaaaa', 'u2aaaaaaaaaaaaaaaaaaaaaaaa', NULL, NULL, NULL);
INSERT INTO posts VALUES ('p1aaaaaaaaaaaaaaaaaaaaaaaa', 1700000000001, 'u1aaaaaaaaaaaaaaaaaaaaaaaa', 'c1aaaaaaaaaaaaaaaaaaaaaaaa', NULL, 'hello team', '{"a": 1}', '#x', '[]', true), ('p2aaaaaaaaaaaaaaaaaaaaaaaa', 1700000000002, 'u2aaaaaaaaaaaaaaaaaaaaaaaa', 'c1aaaaaaaaaaaaaaaaaaaaaaaa', 'p1aaaaaaaaaaaaaaaaaaaaaaaa', 'tab	and
newline', NULL, NULL, NULL, NULL), ('p3aaaaaaaaaaaaaaaaaaaaaaaa', NULL, 'u1aaaaaaaaaaaaaaaaaaaaaaaa', 'c1aaaaaaaaaaaaaaaaaaaaaaaa', 'p1aaaaaaaaaaaaaaaaaaaaaaaa', 'back\slash \N', NULL, NULL, NULL, false);
INSERT INTO reactions VALUES ('u1aaaaaaaaaaaaaaaaaaaaaaaa', 'p1aaaaaaaaaaaaaaaaaaaaaaaa', 'smile', 1, 'c1aaaaaaaaaaaaaaaaaaaaaaaa'), ('u1aaaaaaaaaaaaaaaaaaaaaaaa', 'p1aaaaaaaaaaaaaaaaaaaaaaaa', 'wave', NULL, NULL);
INSERT INTO threads VALUES ('p1aaaaaaaaaaaaaaaaaaaaaaaa', 2, '["u1", "u2"]'), ('p2aaaaaaaaaaaaaaaaaaaaaaaa', NULL, NULL);
INSERT INTO threadmemberships VALUES ('p1aaaaaaaaaaaaaaaaaaaaaaaa', 'u1aaaaaaaaaaaaaaaaaaaaaaaa', true, 0), ('p1aaaaaaaaaaaaaaaaaaaaaaaa', 'u2aaaaaaaaaaaaaaaaaaaaaaaa', NULL, NULL);
INSERT INTO fileinfo VALUES ('f1aaaaaaaaaaaaaaaaaaaaaaaa', 'u1aaaaaaaaaaaaaaaaaaaaaaaa', 'p1aaaaaaaaaaaaaaaaaaaaaaaa', 12, '\xffd8ff', 'image/jpeg'), ('f2aaaaaaaaaaaaaaaaaaaaaaaa', NULL, NULL, NULL, NULL, NULL);
INSERT INTO preferences VALUES ('u1aaaaaaaaaaaaaaaaaaaaaaaa', 'theme', '', '{}'), ('u1aaaaaaaaaaaaaaaaaaaaaaaa', 'theme', 'dark', NULL);
INSERT INTO uploadsessions VALUES ('s1aaaaaaaaaaaaaaaaaaaaaaaa', 'import', 'u1aaaaaaaaaaaaaaaaaaaaaaaa', 100), ('s2aaaaaaaaaaaaaaaaaaaaaaaa', NULL, NULL, NULL);
INSERT INTO systems VALUES ('Version', '9.0'), ('Empty', NULL);
