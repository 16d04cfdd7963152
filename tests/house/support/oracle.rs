//! What do other people's programs say of our messages?

use super::Received;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What dkimpy says of each message, where these records are published.
pub fn dkim_verdicts(python: &Path, records: &[(String, String)], messages: &[Received]) -> Vec<Value> {
    let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/dkim_verify.py");
    let mut child = Command::new(python).arg(oracle).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let records: serde_json::Map<String, Value> =
        records.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
    let mut frames = Vec::new();
    let records = Value::Object(records).to_string().into_bytes();
    for octets in std::iter::once(&records).chain(messages.iter().map(|message| &message.octets)) {
        frames.extend_from_slice(&u32::try_from(octets.len()).unwrap().to_be_bytes());
        frames.extend_from_slice(octets);
    }
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&frames));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "the oracle ended with {}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The interpreter that has dkimpy.
pub fn python() -> PathBuf {
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
