//! An entry that reads on the standbys of the file's server.

use crate::it::major;
use crate::support::{Project, name};

#[test]
fn ping_and_doctor_list_the_servers_and_a_failover_shows() {
    let (name, major) = (name("reads"), major());
    let project = Project::new(&format!(
        "pgserver:\n  name: {name}\n  version: {major}\n  runtime: native\n  replica: {{enabled: true, count: 2}}\n\
         databases:\n  shop: {{pgserver: true, database: shop, create_db: true, reads: causal}}\n  \
         plain: {{pgserver: true, database: shop}}\n"
    ));
    let up = project.run(&["server", "up", "--json"]).well().json();
    let servers = || {
        let ping = project.run(&["ping", "--json"]).well().json();
        assert_eq!(ping["plain"]["servers"].as_array().unwrap().len(), 0, "{ping}");
        let servers = ping["shop"]["servers"].as_array().unwrap().clone();
        assert_eq!(servers.len(), 3, "{ping}");
        servers
    };
    let primary = |servers: &[serde_json::Value]| {
        let primaries = servers.iter().filter(|it| it["role"] == "primary");
        let primaries: Vec<_> = primaries.cloned().collect();
        assert_eq!(primaries.len(), 1, "{servers:?}");
        (primaries[0]["port"].clone(), primaries[0]["timeline"].clone())
    };
    assert_eq!(primary(&servers()), (up["port"].clone(), 1.into()));
    project.run(&["ping"]).well().says(&["primary, timeline 1", "standby, timeline 1"]);
    project.run(&["doctor"]).says(&["primary, timeline 1", "standby, timeline 1, not behind"]);

    let failed_over = project.run(&["server", "failover", "--json"]).well().json();
    assert_ne!(failed_over["port"], up["port"]);
    assert_eq!(primary(&servers()), (failed_over["port"].clone(), 2.into()));
    project.run(&["server", "clean", "--yes"]).well();
}
