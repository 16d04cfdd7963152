//! Programs that know the interface from its description alone find nothing that is not described, and nothing that breaks.
//!
//! Schemathesis makes the calls: good ones and bad ones from the schema of each.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use support::House;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Calls made of each kind.
const EXAMPLES: &str = "10";

// R9.2
#[test]
fn a_program_that_reads_the_description_finds_it_true() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (house, address, stop) = runtime.block_on(async {
        let house = House::open().await;
        house.account("Acme").await;
        house.ips("203.0.113.0/29").await;
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let metrics = house.plant.metrics.clone();
        tokio::spawn(api::server::serve(socket, None, house.router.clone(), metrics, stopped));
        (house, address, stop)
    });
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("strangers");
    std::fs::create_dir_all(&folder).unwrap();
    let mut stranger = Command::new(python());
    stranger.current_dir(&folder).args(["-m", "schemathesis.cli", "--no-color", "run"]);
    stranger.arg(format!("http://{address}/api/v1/openapi.json"));
    stranger.args(["--header", &format!("Authorization: Bearer {}", house.operator)]);
    stranger.args(["--phases", "examples,fuzzing", "--max-examples", EXAMPLES, "--seed", "1", "--workers", "2"]);
    stranger.args(["--suppress-health-check", "all", "--continue-on-failure", "--no-shrink"]);
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    stranger.args(["--checks", checks]);
    let found = stranger.output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stdout));
    stop.send_replace(true);
    drop(house);
}

/// The interpreter that has Schemathesis.
fn python() -> PathBuf {
    if let Some(path) = std::env::var_os("WEIR_TEST_PYTHON") {
        return path.into();
    }
    // CARGO_TARGET_TMPDIR is tmp in the target folder.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let python = target.join("test-tools/python/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run cargo xtask test once, which installs what the tests need",
        python.display()
    );
    python
}
