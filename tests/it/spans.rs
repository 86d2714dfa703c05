//! A span a statement, as an OpenTelemetry exporter gets it.

use opentelemetry::{
    Value,
    trace::{SpanKind, Status, TracerProvider},
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use sea_orm::{ConnectionTrait, EntityTrait};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

use crate::support::TestDatabase;

fn attribute<'a>(span: &'a SpanData, key: &str) -> Option<&'a Value> {
    span.attributes.iter().find(|kv| kv.key.as_str() == key).map(|kv| &kv.value)
}

fn text(span: &SpanData, key: &str) -> Option<String> {
    attribute(span, key).map(|value| value.as_str().into_owned())
}

#[tokio::test]
async fn statements_are_client_spans_below_the_callers() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("it"));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));

    let database = TestDatabase::shop().await;
    let pg = database.pg_with(&["schema: public"]);
    let request = async {
        entity::shop::customer::Entity::find_by_id(7).one(&pg).await.unwrap();
        pg.execute_unprepared("SELECT 'secret'::text, 1/0").await.unwrap_err();
        let session = pg.session().await.unwrap();
        session.commit().await.unwrap();
    };
    request.instrument(tracing::info_span!("request")).await;

    let spans: Vec<_> = exporter.get_finished_spans().unwrap();
    let parent = spans.iter().find(|span| span.name == "request").unwrap();
    let of = |name: &str| {
        let span = spans
            .iter()
            .find(|span| span.name == name && span.parent_span_id == parent.span_context.span_id());
        span.unwrap_or_else(|| panic!("{name} in {spans:#?}"))
    };
    let found = of("SELECT customer");
    assert_eq!(found.span_kind, SpanKind::Client);
    assert_eq!(found.status, Status::Unset);
    for (key, value) in [
        ("db.system.name", "postgresql".to_owned()),
        ("db.namespace", format!("{}|public", database.name)),
        ("db.operation.name", "SELECT".to_owned()),
        ("db.collection.name", "customer".to_owned()),
        ("db.query.summary", "SELECT customer".to_owned()),
        ("db.response.returned_rows", "0".to_owned()),
    ] {
        assert_eq!(text(found, key), Some(value), "{key}");
    }
    assert!(text(found, "db.query.text").unwrap().contains("\"customer\".\"id\" = $1"));
    assert!(
        attribute(found, "server.port").is_some() && attribute(found, "server.address").is_some()
    );
    assert!(found.end_time > found.start_time);
    // It runs while its statement does, and the reader's own are not in it.
    let failed = of("SELECT");
    assert!(matches!(failed.status, Status::Error { .. }), "{failed:?}");
    assert_eq!(text(failed, "db.response.status_code").as_deref(), Some("22012"));
    assert_eq!(text(failed, "error.type").as_deref(), Some("22012"));
    assert_eq!(text(failed, "db.query.text").as_deref(), Some("SELECT ?::text, ?/?"));
    assert_eq!(of("BEGIN").span_kind, SpanKind::Client);
    of("COMMIT");
}
