//! The way of a team: new migrations, migrate, generate, and a service that uses what came of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::it::TestDatabase;
use crate::support::{Done, Project, WHARF, engine, name, run_by_cargo};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// A workspace with one crate, `service`, which knows where wharf is; built where this project is, so
/// that what they have in common is built once.
pub struct Workspace {
    project: Project,
}

impl Workspace {
    pub fn new(yaml: &str, service: &str) -> Workspace {
        let workspace = Workspace { project: Project::new(yaml) };
        let root = fs::read_to_string(format!("{REPOSITORY}/Cargo.toml")).unwrap();
        let profile = &root[root.find("[profile.dev]").unwrap()..];
        workspace.write(
            "Cargo.toml",
            &format!("[workspace]\nmembers = [\"service\"]\nresolver = \"3\"\n\n{profile}"),
        );
        fs::copy(format!("{REPOSITORY}/Cargo.lock"), workspace.project.path().join("Cargo.lock"))
            .unwrap();
        workspace.write("service/Cargo.toml", &manifest("service", "cli"));
        workspace.write("service/src/main.rs", service);
        workspace
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.project.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.project.path().join(file)).unwrap()
    }

    pub fn path(&self) -> &Path {
        self.project.path()
    }

    /// Adds a crate to the workspace.
    pub fn add(&self, member: &str) {
        let before = self.read("Cargo.toml");
        self.write(
            "Cargo.toml",
            &before.replace("[\"service\"]", &format!("[\"service\", {member:?}]")),
        );
    }

    /// Has a member built in a way of its own.
    pub fn profile(&self, member: &str, settings: &str) {
        let before = self.read("Cargo.toml");
        let section = "[profile.dev.package]\n";
        let (head, tail) = before.split_once(section).unwrap();
        self.write("Cargo.toml", &format!("{head}{section}{member} = {{ {settings} }}\n{tail}"));
    }

    /// Runs the service by cargo.
    pub fn run(&self, cargo: &mut Command) -> Done {
        self.here(cargo);
        cargo.args(["run", "--quiet", "-p", "service"]).current_dir(self.project.path());
        Done::of(&["the service"], run_by_cargo(cargo))
    }

    fn here(&self, command: &mut Command) {
        let target = std::path::Path::new(WHARF).ancestors().nth(2).unwrap();
        command.env("CARGO_TARGET_DIR", target).env("CARGO_NET_OFFLINE", "true");
    }

    pub fn wharf(&self, args: &[&str]) -> Done {
        let mut command = self.project.command(args);
        self.here(&mut command);
        Done::of(args, run_by_cargo(&mut command))
    }

    /// Fills in the migration of this name.
    fn migration(&self, folder: &str, name: &str, up: &str) {
        let folder = self.project.path().join("migration/src").join(folder);
        let files = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
        let mut of_name = files.filter(|it| it.to_string_lossy().ends_with(&format!("_{name}.rs")));
        let file = of_name.next().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let (head, _) = text.split_once("impl MigrationTrait").unwrap();
        let text = format!(
            "{head}impl MigrationTrait for Migration {{
                 async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {{
                     manager.get_connection().execute_unprepared(r#\"{up}\"#).await.map(|_| ())
                 }}
             }}"
        );
        fs::write(file, text).unwrap();
    }

    /// What the service says, which uses the entities.
    fn service(&self) -> Done {
        let manifest = self.read("service/Cargo.toml") + "entity = { path = \"../entity\" }\n";
        self.write("service/Cargo.toml", &manifest);
        self.run(&mut cargo())
    }
}

pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Of a crate that uses wharf with these features.
pub fn manifest(name: &str, features: &str) -> String {
    let features: Vec<String> = features.split(' ').map(|it| format!("{it:?}")).collect();
    format!(
        "[package]\nname = {name:?}\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[dependencies]\n\
         async-trait = \"0.1\"\n\
         sea-orm = {{ version = \"2.0\", default-features = false, features = [\"macros\"] }}\n\
         sea-orm-migration = {{ version = \"2.0\", default-features = false, features = [\"sqlx-postgres\", \
         \"runtime-tokio\"] }}\n\
         serde_json = \"1\"\n\
         tokio = {{ version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }}\n\
         wharf = {{ path = \"{REPOSITORY}\", features = [{}] }}\n",
        features.join(", ")
    )
}

const GALLERY: &str = "
CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('ok', 'sad day');
CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');
CREATE TABLE artist (id bigserial PRIMARY KEY, name text NOT NULL);
CREATE TABLE picture (
  id bigserial PRIMARY KEY, artist_id bigint NOT NULL REFERENCES artist, mood mood NOT NULL, moods mood[] NOT NULL,
  span interval NOT NULL, nick citext NOT NULL, nicks citext[] NOT NULL, bits bit(3) NOT NULL,
  more_bits bit varying NOT NULL, range int4range NOT NULL, cash money NOT NULL, at timetz NOT NULL,
  mac macaddr NOT NULL, mail email NOT NULL, search tsvector NOT NULL, spot point NOT NULL,
  price numeric(10, 2) NOT NULL, detail jsonb NOT NULL, tags text[] NOT NULL, \"type\" text,
  doubled int GENERATED ALWAYS AS (2) STORED);
CREATE TABLE keyless (id int);
CREATE TABLE part (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE part_2026 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')";

const SERVICE: &str = r#"
use entity::{artist, picture, sea_orm_active_enums::Mood};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, Set};

#[tokio::main]
async fn main() {
    let pg = wharf::Manager::open("etc/infra.yaml").await.unwrap().db("it").unwrap();
    let artist = artist::ActiveModel { name: Set("Ada".into()), ..Default::default() };
    let artist = artist.insert(&pg).await.unwrap();
    let picture = picture::ActiveModel {
        artist_id: Set(artist.id),
        mood: Set(Mood::SadDay),
        moods: Set(vec![Mood::Ok, Mood::SadDay]),
        span: Set("2 days 03:00:00".into()),
        nick: Set("Ada".into()),
        nicks: Set(vec!["A".into(), "D A".into()]),
        bits: Set("101".into()),
        more_bits: Set("10110".into()),
        range: Set("[1,5)".into()),
        cash: Set("$1,234.50".into()),
        at: Set("12:34:56+02".into()),
        mac: Set("08:00:2b:01:02:03".into()),
        mail: Set("ada@example.org".into()),
        search: Set("'boat':1 'keel':2".into()),
        spot: Set("(1,2)".into()),
        price: Set("12.50".parse().unwrap()),
        detail: Set("{\"a\": [1]}".parse().unwrap()),
        tags: Set(vec!["x".into(), "y,z".into()]),
        r#type: Set(None),
        ..Default::default()
    };
    let mut made = picture.insert(&pg).await.unwrap();
    let found = picture::Entity::find_by_id(made.id).one(&pg).await.unwrap().unwrap();
    assert_eq!(made, found);
    assert_eq!(found.span, "2 days 03:00:00");
    assert_eq!((found.bits.as_str(), found.more_bits.as_str()), ("101", "10110"));
    assert_eq!(found.nicks, ["A", "D A"]);
    assert_eq!(found.moods, [Mood::Ok, Mood::SadDay]);
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<picture::Model>(&json).unwrap(), found, "{json}");
    made.cash = "$7.00".into();
    let changed = picture::ActiveModel { cash: Set("$7.00".into()), ..found.into() };
    assert_eq!(changed.update(&pg).await.unwrap(), made);
    let sad = picture::Entity::find().filter(picture::Column::Mood.eq(Mood::SadDay));
    assert_eq!(sad.all(&pg).await.unwrap().len(), 1);
    println!("back as they went");
}
"#;

#[tokio::test]
async fn a_team_starts_with_nothing_and_comes_to_entities_that_work() {
    let database = TestDatabase::new().await;
    let yaml = format!("databases:\n{}", database.entry("it", &[]));
    let team = Workspace::new(&yaml, SERVICE);
    team.wharf(&["migrate", "init"]).well().says(&["created migration/ for it"]);
    team.wharf(&["migrate", "init"]).failed(1, &["migration/ exists already"]);
    assert!(team.read("Cargo.toml").contains("\"migration\""));
    team.wharf(&["migrate", "new", "open_gallery"]).well();
    let unwritten =
        team.wharf(&["migrate", "up"]).failed(1, &["open_gallery: up is not written yet"]);
    assert!(!unwritten.out.contains("applied"));

    team.migration("", "open_gallery", GALLERY);
    team.wharf(&["migrate", "up"]).well().says(&["it: 1 migration applied in"]);
    let check = team.wharf(&["entity", "generate", "--check"]);
    check.failed(1, &["`wharf entity generate`"]).says(&["entity/src/picture.rs is missing"]);
    let generated = team.wharf(&["entity", "generate", "--serde"]).well();
    generated.says(&["it: 3 entities in entity/src"]);
    assert!(generated.err.contains("table keyless gets no entity, because it has no primary key"));
    team.wharf(&["entity", "generate", "--check"]).well();
    let picture = team.read("entity/src/picture.rs");
    for said in [
        r#"custom(\"interval\")"#,
        r#"save_as = "\"bit\"""#,
        "pub moods: Vec<Mood>",
        "pub r#type: ",
    ] {
        assert!(picture.contains(said), "no {said} in {picture}");
    }
    assert!(!picture.contains("doubled"), "{picture}");

    team.service().well().says(&["back as they went"]);

    // The next one: what is unsafe in it is named, what differs then is found, what is gone goes.
    team.wharf(&["migrate", "new", "drop_part"]).well();
    team.migration("", "drop_part", "DROP TABLE part; ALTER TABLE artist ADD note text NOT NULL");
    team.wharf(&["migrate", "lint"])
        .failed(1, &[])
        .says(&["it, m2", "NOT NULL and has no default"]);
    let check = team.wharf(&["entity", "generate", "--check"]).failed(1, &[]);
    check.says(&[
        "entity/src/part.rs belongs to a table that no longer exists",
        "entity/src/artist.rs is out of date",
    ]);
    team.wharf(&["entity", "generate"]).well().says(&["removed entity/src/part.rs"]);
    team.wharf(&["entity", "generate", "--check"]).well();
    // What somebody wrote there is not lost.
    team.write("entity/src/artist.rs", "// by hand");
    team.wharf(&["entity", "generate"]).failed(1, &["artist.rs was not generated", "move it away"]);

    team.migration("", "drop_part", "nonsense");
    team.write(
        "migration/src/lib.rs",
        &team.read("migration/src/lib.rs").replace("Box::new", "Bax::new"),
    );
    team.wharf(&["migrate", "up"]).failed(1, &["Bax", "does not build; see cargo"]);
}

#[tokio::test]
async fn the_first_build_is_announced_and_begins_only_where_the_database_answers() {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::process::CommandExt as _;
    let down = "databases:\n  it:\n    url: postgres://a:b@127.0.0.1:1/c\n";
    let team = Workspace::new(down, "fn main() {}");
    team.wharf(&["migrate", "init"]).well();
    let target = tempfile::tempdir().unwrap();
    let up = || {
        let mut command = team.project.command(&["migrate", "up"]);
        command.env("CARGO_TARGET_DIR", target.path()).env("CARGO_NET_OFFLINE", "true");
        command
    };
    let unreachable = Done::of(&["migrate", "up"], up().output().unwrap());
    let unreachable = unreachable.failed(4, &["Connection refused"]);
    assert!(!unreachable.err.contains("building"), "{unreachable:?}");

    let database = TestDatabase::new().await;
    team.project.write(&format!("databases:\n{}", database.entry("it", &[])));
    // With cargo in a group of its own, so that the build can be ended.
    let mut building = up().process_group(0).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(building.stderr.take().unwrap()).lines();
    let said: Vec<String> = lines.map(Result::unwrap).take(1).collect();
    let ended = Command::new("kill").args(["-KILL", "--", &format!("-{}", building.id())]).status();
    assert!(ended.unwrap().success());
    building.wait().unwrap();
    let note = "building the program in migration; the first build takes some minutes";
    assert_eq!(said, [note]);
}

const TYPES: &str = r#"
use sea_orm::{ActiveModelTrait, EntityTrait, Set};

#[tokio::main]
async fn main() {
    let manager = wharf::Manager::open("etc/infra.yaml").await.unwrap();
    SERVICE
    println!("back as they went");
}
"#;

const PLACES: &str = r#"
    use entity::place;
    let pg = manager.db("it").unwrap();
    let place = place::ActiveModel {
        spot: Set("SRID=4326;POINT(13.4 52.5)".into()),
        area: Set("POLYGON((0 0,0 1,1 1,0 0))".into()),
        ..Default::default()
    };
    let made = place.insert(&pg).await.unwrap();
    let found = place::Entity::find_by_id(made.id).one(&pg).await.unwrap().unwrap();
    assert_eq!(made, found);
    // As EWKB, in hex: little-endian, a point with an SRID, 4326.
    assert!(found.spot.starts_with("0101000020E6100000"), "{}", found.spot);
"#;

const VECTORS: &str = r#"
    use entity::{one::passage, two::note};
    use sea_orm::prelude::PgVector;
    let pg = manager.db("one").unwrap();
    let passage = passage::ActiveModel {
        whole: Set(PgVector::from(vec![1.0, 2.0, 3.0])),
        half: Set("[1,2,3.5]".into()),
        sparse: Set("{1:1,3:2}/5".into()),
        bits: Set("101".into()),
        ..Default::default()
    };
    let made = passage.insert(&pg).await.unwrap();
    let found = passage::Entity::find_by_id(made.id).one(&pg).await.unwrap().unwrap();
    assert_eq!(made, found);
    assert_eq!((found.half.as_str(), found.sparse.as_str()), ("[1,2,3.5]", "{1:1,3:2}/5"));
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<passage::Model>(&json).unwrap(), found, "{json}");
    let note = note::ActiveModel {
        text: Set("n".into()),
        far: Set("[1,2,3]".into()),
        half: Set(Some("[1,2]".into())),
        ..Default::default()
    };
    let two = manager.db("two").unwrap();
    let made = note.insert(&two).await.unwrap();
    assert_eq!((made.far.as_str(), made.half.as_deref()), ("[1,2,3]", Some("[1,2]")));
    assert_eq!(note::Entity::find_by_id(made.id).one(&two).await.unwrap().unwrap(), made);
"#;

fn on_docker(test: &str, image: &str, databases: &[(&str, &str)]) -> String {
    let mut yaml = format!(
        "pgserver:\n  name: {}\n  image: {image}\n  runtime: docker\ndatabases:\n",
        name(test)
    );
    for (database, extensions) in databases {
        yaml.push_str(&format!(
            "  {database}:\n    pgserver: true\n    database: {database}\n    create_db: true\n    \
             extensions: [{extensions}]\n"
        ));
    }
    yaml
}

#[test]
fn vectors_of_every_kind_and_two_databases_come_out_usable() {
    if !engine() {
        return;
    }
    let yaml = on_docker("vectors", "pgvector/pgvector:pg17", &[("one", "vector"), ("two", "")]);
    let team = Workspace::new(&yaml, &TYPES.replace("SERVICE", VECTORS));
    team.wharf(&["migrate", "init"]).well().says(&["for one, two"]);
    team.wharf(&["migrate", "new", "one", "open"]).well();
    let passages = "CREATE TABLE passage (id bigserial PRIMARY KEY, whole vector(3) NOT NULL, half halfvec(3) \
                    NOT NULL, sparse sparsevec(5) NOT NULL, bits bit(3) NOT NULL)";
    team.migration("one", "open", passages);
    team.wharf(&["migrate", "new", "two", "open"]).well();
    team.migration(
        "two",
        "open",
        // As Supabase has its extensions.
        "CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions; CREATE TABLE note (id bigserial PRIMARY KEY, \
         text text NOT NULL, far extensions.vector(3) NOT NULL, half extensions.halfvec(2))",
    );
    // The server is started for it, and stopped again.
    team.wharf(&["entity", "generate", "--serde"]).well().says(&["one: 1 entity", "two: 1 entity"]);
    team.wharf(&["server", "status"]).failed(4, &[]).says(&["stopped"]);
    let passage = team.read("entity/src/one/passage.rs");
    for said in [
        "column_type = \"Vector(Some(3))\"",
        r#"custom(\"halfvec(3)\")"#,
        "save_as = \"sparsevec\"",
    ] {
        assert!(passage.contains(said), "no {said} in {passage}");
    }
    team.wharf(&["server", "up"]).well();
    team.wharf(&["migrate", "up"]).well();
    team.wharf(&["entity", "generate", "--check"]).well();
    let databases = team.wharf(&["db", "list", "--json"]).well();
    assert!(!databases.out.contains("wharf_test_"), "{databases:#?}");
    team.service().well().says(&["back as they went"]);
}

#[test]
fn geometry_and_geography_come_out_usable() {
    if !engine() {
        return;
    }
    let yaml = on_docker("places", "postgis/postgis:17-3.5", &[("it", "postgis")]);
    let team = Workspace::new(&yaml, &TYPES.replace("SERVICE", PLACES));
    team.wharf(&["migrate", "init"]).well();
    team.wharf(&["migrate", "new", "open"]).well();
    let places = "CREATE TABLE place (id bigserial PRIMARY KEY, spot geometry(Point, 4326) NOT NULL, \
                  area geography(Polygon, 4326) NOT NULL)";
    team.migration("", "open", places);
    team.wharf(&["server", "up"]).well();
    team.wharf(&["migrate", "up"]).well();
    let generated = team.wharf(&["entity", "generate", "--serde"]).well();
    generated.says(&["it: 1 entity in entity/src"]);
    assert!(team.read("entity/src/place.rs").contains("Serialize, Deserialize"));
    assert!(team.read("entity/src/place.rs").contains(r#"custom(\"geometry(Point,4326)\")"#));
    team.service().well().says(&["back as they went"]);
}

/// What the examples use.
#[test]
fn this_projects_own_entities_are_what_its_migrations_make() {
    if !engine() {
        return;
    }
    let databases = [("shop", ""), ("audit", ""), ("library", "vector")];
    let project = Project::new(&on_docker("own", "pgvector/pgvector:pg17", &databases));
    let mut command = project.command(&["entity", "generate", "--check"]);
    command.current_dir(REPOSITORY).env("WHARF_FILE", project.path().join("etc/infra.yaml"));
    Done::of(&["entity", "generate", "--check"], run_by_cargo(&mut command)).well();
}
