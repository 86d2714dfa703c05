//! An entry with a pooler, as an operator meets it.

use secrecy::ExposeSecret as _;
use wharf::config::Address;

use crate::{
    it::TestDatabase,
    pgbouncer::{NEW, PgBouncer},
    support::Project,
};

struct Pooled {
    pooler: PgBouncer,
    database: TestDatabase,
    at: (String, u16),
    user: String,
    password: String,
}

async fn pooled(lines: &[&str]) -> Option<Pooled> {
    let database = TestDatabase::new().await;
    let to = database.config(&[]).databases["it"].clone();
    let Address::Host { host, port } = to.address else { panic!("{:?}", to.address) };
    let password = to.password.as_ref().map_or("", |it| it.expose_secret()).to_owned();
    let server = format!("host={host} port={port} user={} password={password}", to.user);
    let pooler = PgBouncer::start(NEW, &server, lines)?;
    Some(Pooled { pooler, database, at: (host, port), user: to.user, password })
}

impl Pooled {
    fn entry(&self, lines: &[&str]) -> String {
        let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
        let Pooled { pooler, database, user, password, .. } = self;
        format!(
            "  it:\n    host: 127.0.0.1\n    port: {}\n    database: {}\n    user: {user}\n    password: '{password}'\n{lines}",
            pooler.port, database.name
        )
    }

    fn direct(&self) -> String {
        format!("direct: {}:{}", self.at.0, self.at.1)
    }
}

#[tokio::test]
async fn doctor_finds_a_pooler_that_the_entry_does_not_name_or_names_otherwise() {
    let Some(it) = pooled(&[]).await else { return };
    let project = Project::new(&format!("databases:\n{}", it.entry(&[])));
    let says = "say `pooler: transaction` or `pooler: session`";
    project.run(&["doctor"]).failed(1, &[]).says(&["unsupported startup parameter", says]);
    project.run(&["ping"]).failed(4, &[]).says(&[says]);
    project.write(&format!("databases:\n{}", it.entry(&["pooler: session"])));
    let done = project.run(&["doctor"]).failed(1, &[]);
    done.says(&[
        "a pooler lends its connections for a transaction each; say `pooler: transaction`",
    ]);
    let lines = ["pooler: transaction", "statement_timeout: 5s"];
    project.write(&format!("databases:\n{}", it.entry(&lines)));
    let done = project.run(&["doctor"]).well();
    done.says(&[
        "two round trips more, to set statement_timeout",
        "ALTER ROLE",
        "names no `direct` address",
    ]);
    project.write(&format!("databases:\n{}", it.entry(&["pooler: transaction", &it.direct()])));
    let done = project.run(&["doctor"]).well();
    assert!(!done.out.contains("pooler") && !done.out.contains("round trips"), "{done:#?}");
}

#[tokio::test]
async fn what_an_operator_does_goes_past_the_pooler() {
    let Some(it) = pooled(&[]).await else { return };
    let lines = ["pooler: transaction", "statement_timeout: 5s"];
    let project = Project::new(&format!("databases:\n{}", it.entry(&lines)));
    let vacuum = ["run", "it", "--write", "VACUUM"];
    project.run(&vacuum).failed(1, &["needs a connection of its own", "add `direct: host:port`"]);
    let direct = it.direct();
    let lines = [&lines[..], &[direct.as_str()]].concat();
    project.write(&format!("databases:\n{}", it.entry(&lines)));
    project.run(&vacuum).well();
    project.run(&["run", "it", "SHOW statement_timeout"]).well().says(&["5s"]);
    project.run(&["ping"]).well().says(&["ok"]);
}
