//! A span a statement, by OpenTelemetry's conventions.

use tracing::field::Empty;

use super::{Digest, Outcome, StatementEvent, meter::Target};

pub(super) struct Span(tracing::Span);

impl Span {
    pub(super) fn new(digest: &Digest, target: Option<&Target>) -> Span {
        let span = tracing::info_span!(
            target: "wharf::statement",
            "statement",
            otel.name = Empty,
            otel.kind = "client",
            otel.status_code = Empty,
            db.system.name = "postgresql",
            db.namespace = target.map(|target| &*target.namespace),
            db.operation.name = digest.operation(),
            db.collection.name = digest.table(),
            db.query.text = digest.text(),
            db.query.summary = Empty,
            db.response.status_code = Empty,
            db.response.returned_rows = Empty,
            error.type = Empty,
            server.address = target.map(|target| &*target.address),
            server.port = target.and_then(|target| target.port),
        );
        if !span.is_disabled() {
            let summary = digest.summary();
            span.record("otel.name", &*summary);
            span.record("db.query.summary", &*summary);
        }
        Span(span)
    }

    pub(super) fn end(&self, event: &StatementEvent<'_>) {
        if self.0.is_disabled() {
            return;
        }
        if let (true, Some(rows)) = (event.returned, event.rows) {
            self.0.record("db.response.returned_rows", rows);
        }
        if let Some(error_type) = event.error_type() {
            self.0.record("error.type", error_type);
        }
        if let Some(sqlstate) = event.sqlstate() {
            self.0.record("db.response.status_code", sqlstate);
        }
        if let Outcome::Failed { .. } = event.outcome {
            self.0.record("otel.status_code", "ERROR");
        }
    }
}
