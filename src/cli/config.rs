//! `wharf config`.

use serde_json::json;

use super::args::ConfigCommand;
use super::context::{Context, shown};
use super::failure::Failure;
use super::out;
use crate::config::Setting;

pub(super) fn run(
    context: &Context,
    command: Option<ConfigCommand>,
    json: bool,
) -> Result<(), Failure> {
    match command {
        None => show(context, None, json),
        Some(ConfigCommand::Show { path, json: own }) => show(context, path, json || own.json),
        Some(ConfigCommand::Check) => check(context),
    }
}

fn show(context: &Context, path: Option<String>, json: bool) -> Result<(), Failure> {
    let effective = context.config()?.effective();
    let below = |setting: &&Setting| match &path {
        None => true,
        Some(path) => {
            setting.path == *path
                || setting
                    .path
                    .strip_prefix(path.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
        }
    };
    let settings: Vec<&Setting> = effective.settings().iter().filter(below).collect();
    if settings.is_empty() && path.is_some() {
        return Err(Failure::Failed(format!(
            "the file has no setting `{}`; run `wharf config` to see all",
            path.unwrap_or_default()
        )));
    }
    if json {
        let all: Vec<_> = settings
            .iter()
            .map(|it| {
                json!({
                    "path": it.path, "value": it.value, "source": it.source.to_string(),
                    "has_effect": it.has_effect,
                })
            })
            .collect();
        return out::json(&json!(all));
    }
    let rows = settings.iter().map(|it| {
        let note = if it.has_effect { "" } else { " (no effect)" };
        vec![out::cell(&it.path), out::cell(&it.value), out::cell(format!("{}{note}", it.source))]
    });
    out::table(&["setting", "value", "source"], rows.collect())
}

fn check(context: &Context) -> Result<(), Failure> {
    let config = context.config()?;
    let databases = out::count(config.databases.len(), "database");
    let server = if config.pgserver.is_some() { ", a development server" } else { "" };
    out::line(format_args!("{} is valid: {databases}{server}", shown(&context.file()?)))
}
