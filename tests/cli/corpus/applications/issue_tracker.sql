-- An issue tracker in the Rails manner: polymorphic columns, nested sets, custom fields, a junction without its own key columns beyond the two.
CREATE TABLE schema_migrations (version varchar NOT NULL PRIMARY KEY);
CREATE TABLE users (
    id serial PRIMARY KEY,
    login varchar NOT NULL DEFAULT '',
    firstname varchar(30) NOT NULL DEFAULT '',
    admin boolean NOT NULL DEFAULT false,
    status integer NOT NULL DEFAULT 1,
    last_login_on timestamp,
    type varchar,
    mail_notification varchar NOT NULL DEFAULT ''
);
CREATE TABLE projects (
    id serial PRIMARY KEY,
    name varchar NOT NULL DEFAULT '',
    description text,
    is_public boolean NOT NULL DEFAULT true,
    parent_id integer REFERENCES projects,
    identifier varchar,
    lft integer,
    rgt integer,
    default_assigned_to_id integer REFERENCES users,
    created_on timestamp
);
CREATE INDEX index_projects_on_lft ON projects (lft);
CREATE TABLE trackers (id serial PRIMARY KEY, name varchar(30) NOT NULL DEFAULT '', position integer, fields_bits integer DEFAULT 0);
CREATE TABLE projects_trackers (
    project_id integer NOT NULL DEFAULT 0 REFERENCES projects,
    tracker_id integer NOT NULL DEFAULT 0 REFERENCES trackers,
    PRIMARY KEY (project_id, tracker_id)
);
CREATE TABLE issue_statuses (id serial PRIMARY KEY, name varchar(30) NOT NULL, is_closed boolean NOT NULL DEFAULT false, default_done_ratio integer);
CREATE TABLE enumerations (
    id serial PRIMARY KEY,
    name varchar(30) NOT NULL,
    position integer,
    is_default boolean NOT NULL DEFAULT false,
    type varchar,
    project_id integer REFERENCES projects,
    parent_id integer REFERENCES enumerations
);
CREATE TABLE versions (
    id serial PRIMARY KEY,
    project_id integer NOT NULL REFERENCES projects ON DELETE CASCADE,
    name varchar NOT NULL,
    effective_date date,
    status varchar DEFAULT 'open'
);
CREATE TABLE issues (
    id serial PRIMARY KEY,
    tracker_id integer NOT NULL REFERENCES trackers,
    project_id integer NOT NULL REFERENCES projects,
    subject varchar NOT NULL DEFAULT '',
    description text,
    due_date date,
    status_id integer NOT NULL REFERENCES issue_statuses,
    assigned_to_id integer REFERENCES users,
    priority_id integer NOT NULL REFERENCES enumerations,
    fixed_version_id integer REFERENCES versions,
    author_id integer NOT NULL REFERENCES users,
    lock_version integer NOT NULL DEFAULT 0,
    done_ratio integer NOT NULL DEFAULT 0,
    estimated_hours double precision,
    parent_id integer REFERENCES issues,
    root_id integer REFERENCES issues,
    is_private boolean NOT NULL DEFAULT false,
    closed_on timestamp
);
CREATE INDEX index_issues_on_root ON issues (root_id);
CREATE TABLE issue_relations (
    id serial PRIMARY KEY,
    issue_from_id integer NOT NULL REFERENCES issues,
    issue_to_id integer NOT NULL REFERENCES issues,
    relation_type varchar NOT NULL DEFAULT '',
    delay integer
);
CREATE UNIQUE INDEX index_issue_relations_on_issue_from_id_and_issue_to_id ON issue_relations (issue_from_id, issue_to_id);
CREATE TABLE journals (
    id serial PRIMARY KEY,
    journalized_id integer NOT NULL DEFAULT 0,
    journalized_type varchar(30) NOT NULL DEFAULT '',
    user_id integer NOT NULL REFERENCES users,
    notes text,
    created_on timestamp NOT NULL
);
CREATE INDEX journals_journalized_id ON journals (journalized_id, journalized_type);
CREATE TABLE journal_details (
    id serial PRIMARY KEY,
    journal_id integer NOT NULL REFERENCES journals ON DELETE CASCADE,
    property varchar(30) NOT NULL DEFAULT '',
    prop_key varchar(30) NOT NULL DEFAULT '',
    old_value text,
    value text
);
CREATE TABLE custom_fields (id serial PRIMARY KEY, type varchar(30) NOT NULL, name varchar(30) NOT NULL, possible_values text[], regexp varchar DEFAULT '', min_length integer);
CREATE TABLE custom_values (
    id serial PRIMARY KEY,
    customized_type varchar(30) NOT NULL DEFAULT '',
    customized_id integer NOT NULL DEFAULT 0,
    custom_field_id integer NOT NULL REFERENCES custom_fields,
    value text
);
CREATE TABLE watchers (id serial PRIMARY KEY, watchable_type varchar NOT NULL DEFAULT '', watchable_id integer NOT NULL DEFAULT 0, user_id integer REFERENCES users);
CREATE TABLE time_entries (
    id serial PRIMARY KEY,
    project_id integer NOT NULL REFERENCES projects,
    issue_id integer REFERENCES issues,
    user_id integer NOT NULL REFERENCES users,
    author_id integer REFERENCES users,
    hours double precision NOT NULL,
    activity_id integer NOT NULL REFERENCES enumerations,
    spent_on date NOT NULL,
    tyear integer NOT NULL
);
INSERT INTO schema_migrations VALUES ('1'), ('20130101');
INSERT INTO users VALUES (1, 'admin', 'Red', true, 1, '2024-01-01 08:00', 'User', 'all'), (2, 'dev', 'Dee', false, 1, NULL, 'User', ''), (3, '', '', false, 0, NULL, NULL, '');
INSERT INTO projects VALUES (1, 'Main', 'd', true, NULL, 'main', 1, 6, 2, '2024-01-01'), (2, 'Sub', NULL, false, 1, 'sub', 2, 3, NULL, NULL), (3, 'Sub 2', '', true, 1, NULL, NULL, NULL, 2, NULL);
INSERT INTO trackers VALUES (1, 'Bug', 1, 0), (2, 'Feature', NULL, NULL);
INSERT INTO projects_trackers VALUES (1, 1), (1, 2), (2, 1);
INSERT INTO issue_statuses VALUES (1, 'New', false, NULL), (2, 'Closed', true, 100);
INSERT INTO enumerations VALUES (1, 'Low', 1, true, 'IssuePriority', NULL, NULL), (2, 'Low here', 2, false, 'IssuePriority', 1, 1), (3, 'Design', NULL, false, 'TimeEntryActivity', 1, NULL), (4, 'Low there', 2, false, NULL, 2, 1);
INSERT INTO versions VALUES (1, 1, '1.0', '2024-06-01', 'open'), (2, 1, '2.0', NULL, NULL);
INSERT INTO issues VALUES (1, 1, 1, 'Crash', 'boom', '2024-02-01', 1, 2, 1, 1, 1, 0, 10, 1.5, NULL, 1, false, NULL), (2, 1, 1, 'Sub crash', NULL, NULL, 2, NULL, 1, NULL, 1, 3, 100, NULL, 1, 1, true, '2024-02-02 02:02:02'), (3, 2, 1, '', '', NULL, 1, 2, 2, 1, 2, 0, 0, 0, 1, NULL, false, NULL);
INSERT INTO issue_relations VALUES (1, 1, 2, 'relates', NULL), (2, 1, 3, 'precedes', 2), (3, 3, 2, 'blocks', NULL);
INSERT INTO journals VALUES (1, 1, 'Issue', 1, 'note', '2024-01-02'), (2, 1, 'Issue', 1, NULL, '2024-01-03'), (3, 1, 'Wiki', 2, '', '2024-01-04');
INSERT INTO journal_details VALUES (1, 1, 'attr', 'status_id', '1', '2'), (2, 1, 'attr', 'due_date', NULL, NULL);
INSERT INTO custom_fields VALUES (1, 'IssueCustomField', 'OS', '{Linux,"Mac OS"}', '', 1), (2, 'UserCustomField', 'Age', NULL, NULL, NULL);
INSERT INTO custom_values VALUES (1, 'Issue', 1, 1, 'Linux'), (2, 'Issue', 2, 1, NULL);
INSERT INTO watchers VALUES (1, 'Issue', 1, 1), (2, 'Project', 1, 1), (3, '', 0, NULL);
INSERT INTO time_entries VALUES (1, 1, 1, 2, 1, 2.25, 3, '2024-01-05', 2024), (2, 1, NULL, 2, NULL, 0.1, 3, '2024-01-06', 2024), (3, 1, 1, 1, 1, 8, 3, '2024-01-07', 2024);
