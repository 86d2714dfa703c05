//! Help, manual pages and completion.

use crate::support::Project;

const FILE: &str =
    "databases:\n  shop: {database: shop, user: a}\n  stock: {database: s, user: a}\n";

/// The words with which a line of help begins.
const VERBS: [&str; 34] = [
    "Allow", "Answer", "Apply", "Back", "Check", "Connect", "Create", "Delete", "Derive", "Drop",
    "Generate", "List", "Open", "Press", "Print", "Read", "Report", "Restore", "Roll", "Run",
    "Show", "Start", "Stop", "Use", "Wait", "Watch", "Write", "Example", "Add", "Follow", "Set",
    "Take", "Name", "Promote",
];

/// Every command by its words, the program itself first.
fn commands(project: &Project) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut next = 0;
    while let Some(command) = all.get(next).cloned() {
        next += 1;
        let mut args: Vec<&str> = command.iter().map(String::as_str).collect();
        args.push("--help");
        let help = project.run(&args).well().out;
        let below = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        for line in below.take_while(|line| line.starts_with("  ")) {
            // What goes on from the line above is further in.
            if let Some(name) = line.strip_prefix("  ").filter(|it| !it.starts_with(' ')) {
                let name = name.split_whitespace().next().unwrap().to_owned();
                all.push([command.clone(), vec![name]].concat());
            }
        }
    }
    all
}

#[test]
fn every_command_says_what_it_does_by_an_imperative_verb() {
    let project = Project::new(FILE);
    let all = commands(&project);
    assert!(all.len() > 35, "{all:?}");
    for command in all {
        let mut args: Vec<&str> = command.iter().map(String::as_str).collect();
        args.push("--help");
        let help = project.run(&args).well().out;
        let first = help.split_whitespace().next().unwrap().trim_end_matches(',');
        assert!(VERBS.contains(&first), "{command:?} begins with {first}: {help}");
        assert!(!help.contains('?') || command == ["top"], "{help}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let project = Project::new(FILE);
    project.run(&["man"]).well().says(&[".TH wharf", "doctor"]);
    project.run(&["man", "server", "up"]).well().says(&[".TH wharf-server-up", "Start the server"]);
    project.run(&["man", "server", "upp"]).failed(1, &["wharf has no command `server upp`"]);
    let pages = commands(&project).len();
    let said = format!("{pages} pages written to pages");
    project.run(&["man", "--dir", "pages"]).well().says(&[&said]);
    let written = std::fs::read_dir(project.path().join("pages")).unwrap().count();
    assert_eq!(written, pages);
}

/// What a shell is told for a command line whose last word is to be completed.
fn completed(project: &Project, words: &[&str]) -> Vec<String> {
    let mut command = project.command(&["--", "wharf"]);
    command.args(words).env("WHARF_COMPLETE", "bash");
    command.env("_CLAP_COMPLETE_INDEX", words.len().to_string()).env("_CLAP_IFS", "\n");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn names_of_databases_are_completed() {
    let project = Project::new(FILE);
    for words in [&["psql", ""][..], &["run", ""], &["db", "size", ""], &["server", "backup", ""]] {
        let names = completed(&project, words);
        assert!(names.contains(&"shop".to_owned()), "{words:?}: {names:?}");
        assert!(names.contains(&"stock".to_owned()), "{words:?}: {names:?}");
    }
    assert_eq!(completed(&project, &["ping", "st"]), ["stock"]);
    assert!(completed(&project, &["serv"]).contains(&"server".to_owned()));
    // A file that cannot be read has no names, and is no reason to disturb whoever types.
    project.write("databases: [");
    assert!(!completed(&project, &["psql", ""]).contains(&"shop".to_owned()));
    for shell in ["bash", "zsh", "fish"] {
        project.run(&["completions", shell]).well().says(&["WHARF_COMPLETE"]);
    }
}

#[test]
fn a_command_of_another_one_is_suggested_whole() {
    let project = Project::new("databases: {}\n");
    project
        .run(&["up"])
        .failed(2, &["unrecognized subcommand 'up'", "'server up'", "'migrate up'"]);
    project.run(&["generate"]).failed(2, &["'entity generate'"]);
}
