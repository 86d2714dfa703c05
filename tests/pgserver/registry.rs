//! An image that the engine does not have and can have, from a registry of this test.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path as At, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use wharf::config::Runtime;

use crate::docker::{Server, docker, engine, said};
use crate::support::{Log, run};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// A layer comes in so many pieces, slowly enough to be watched.
const PIECES: usize = 60;
const PAUSE: Duration = Duration::from_millis(80);

/// What a registry serves of one image: the engine's own, taken out of it.
struct Registry {
    manifest: String,
    blobs: HashMap<String, PathBuf>,
}

impl Registry {
    fn of(image: &str, dir: &Path) -> Registry {
        let saved = dir.join("saved.tar");
        said(&["save", image, "-o", saved.to_str().unwrap()]);
        let untar = Command::new("tar").arg("xf").arg(&saved).arg("-C").arg(dir).status();
        assert!(untar.unwrap().success());
        let manifest = std::fs::read(dir.join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let mut blobs = HashMap::new();
        let mut described = |name: &str, kind: &str| {
            let path = dir.join(name);
            let digest = format!("sha256:{}", sha256(&path));
            let size = path.metadata().unwrap().len();
            blobs.insert(digest.clone(), path);
            serde_json::json!({"mediaType": kind, "size": size, "digest": digest})
        };
        let config = manifest[0]["Config"].as_str().unwrap();
        // Other layers than the engine ever had, or it would see that there is nothing to pull: what
        // follows the end of an archive is empty, however much it is.
        let text = std::fs::read_to_string(dir.join(config)).unwrap();
        let mut other: serde_json::Value = serde_json::from_str(&text).unwrap();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        let more = vec![0; 512 * (now / 1000 % 4096 + 1) as usize];
        for (at, layer) in manifest[0]["Layers"].as_array().unwrap().iter().enumerate() {
            let path = dir.join(layer.as_str().unwrap());
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(&more).unwrap();
            other["rootfs"]["diff_ids"][at] = format!("sha256:{}", sha256(&path)).into();
        }
        std::fs::write(dir.join(config), other.to_string()).unwrap();
        let config = described(config, "application/vnd.docker.container.image.v1+json");
        let layers = manifest[0]["Layers"].as_array().unwrap().iter();
        let layers: Vec<_> =
            layers.map(|layer| described(layer.as_str().unwrap(), LAYER)).collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        });
        Registry { manifest: manifest.to_string(), blobs }
    }

    /// Serves it for as long as the test runs; where.
    async fn serve(self) -> String {
        let router = axum::Router::new()
            .route("/v2/", get(|| async { "{}" }))
            .route("/v2/{name}/manifests/{tag}", get(manifest))
            .route("/v2/{name}/blobs/{digest}", get(blob))
            .with_state(Arc::new(self));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }
}

async fn manifest(State(registry): State<Arc<Registry>>) -> Response {
    ([(header::CONTENT_TYPE, MANIFEST)], registry.manifest.clone()).into_response()
}

async fn blob(
    State(registry): State<Arc<Registry>>,
    At((_, digest)): At<(String, String)>,
) -> Response {
    let Some(path) = registry.blobs.get(&digest) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let bytes = Bytes::from(std::fs::read(path).unwrap());
    let size = bytes.len();
    let piece = size / PIECES + 1;
    let pieces = stream::unfold(bytes, move |mut left| async move {
        if left.is_empty() {
            return None;
        }
        // A small one is no layer that anybody would watch.
        if size > 1_000_000 {
            tokio::time::sleep(PAUSE).await;
        }
        let next = left.split_to(piece.min(left.len()));
        Some((Ok::<_, std::io::Error>(next), left))
    });
    ([(header::CONTENT_LENGTH, size.to_string())], Body::from_stream(pieces)).into_response()
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// Taken off the engine at the end.
struct Pulled(String);

impl Drop for Pulled {
    fn drop(&mut self) {
        docker(&["rmi", "-f", &self.0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_is_pulled_and_how_far_it_is_is_told() {
    if !engine() {
        return;
    }
    let server = Server::new("pull");
    let dir = tempfile::tempdir().unwrap();
    let address = Registry::of("postgres:17", dir.path()).serve().await;
    let image = format!("{address}/postgres:17");
    let _pulled = Pulled(image.clone());
    let mut config = server.config();
    (config.image, config.runtime) = (Some(image.clone()), Runtime::Auto);

    let log = Log::everywhere();
    let pg = server.pg(config);
    let at = pg.start().await.unwrap();
    assert_eq!(at.runtime, Runtime::Docker);
    assert_eq!(run(&at, "SELECT 1::text").await.unwrap(), "1");
    let lines = log.lines().join("\n");
    assert!(lines.contains(&format!("image {image}, which is pulled first")), "{lines}");
    let told: Vec<f64> = lines
        .lines()
        .filter_map(|line| line.split_once(&format!("pulling {image}: "))?.1.split_once(" of "))
        .map(|(done, _)| done.parse().unwrap())
        .collect();
    assert!(told.len() >= 2 && told.is_sorted() && told[told.len() - 1] > 10.0, "{lines}");
    pg.remove().await.unwrap();
}
