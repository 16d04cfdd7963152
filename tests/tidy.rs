//! Do the walls of the house stand? The table of ARCHITECTURE.md against the manifests, and the order of modules in each crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms a room may import. `sim` is for the front door alone.
const WALLS: &[(&str, &[&str])] = &[
    ("mail", &[]),
    ("spool", &[]),
    ("engine", &["mail"]),
    ("net", &["mail"]),
    ("sim", &["engine", "mail"]),
    ("mta", &["engine", "mail", "net", "spool"]),
    ("control", &["engine", "mail", "net"]),
    ("api", &["control", "engine", "mail", "mta", "net"]),
];

/// What a room must never name, besides other rooms: the pure rooms know no runtime, and protocol code no product.
const REFUSED: &[(&str, &[&str])] = &[
    ("mail", &["tokio", "axum", "hickory-resolver", "socket2"]),
    ("spool", &["axum", "socket2", "mail"]),
    ("engine", &["tokio", "socket2", "rustix", "axum", "spool", "uuid"]),
    ("sim", &["tokio", "socket2", "rustix", "net"]),
    ("mta", &["axum"]),
    ("control", &["axum", "hyper"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn dependencies(manifest: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(manifest).expect("a crate has a manifest");
    let value: toml::Table = text.parse().expect("a manifest is TOML");
    let mut names = BTreeSet::new();
    if let Some(table) = value.get("dependencies").and_then(toml::Value::as_table) {
        names.extend(table.keys().cloned());
    }
    names
}

#[test]
fn rooms_import_only_what_their_wall_allows() {
    let rooms: BTreeSet<&str> = WALLS.iter().map(|(room, _)| *room).collect();
    for (room, allowed) in WALLS {
        let named = dependencies(&root().join("crates").join(room).join("Cargo.toml"));
        for other in named.iter().filter(|name| rooms.contains(name.as_str())) {
            assert!(allowed.contains(&other.as_str()), "{room} must not import {other}");
        }
    }
    for entry in fs::read_dir(root().join("crates")).expect("the rooms stand in crates/") {
        let name = entry.expect("readable").file_name().into_string().expect("UTF-8");
        assert!(rooms.contains(name.as_str()), "crates/{name} has no place in the table of walls");
    }
}

#[test]
fn rooms_keep_out_what_their_wall_refuses() {
    for (room, refused) in REFUSED {
        let named = dependencies(&root().join("crates").join(room).join("Cargo.toml"));
        for other in *refused {
            assert!(!named.contains(*other), "{room} must not depend on {other}");
        }
    }
}

#[test]
fn modules_use_only_those_above_their_line() {
    for (room, _) in WALLS {
        let src = root().join("crates").join(room).join("src");
        check_order(room, &src.join("lib.rs"), &src);
    }
}

fn check_order(room: &str, lib: &Path, src: &Path) {
    let text = fs::read_to_string(lib).expect("a crate has lib.rs");
    let order: BTreeMap<String, usize> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub mod ").or_else(|| line.trim().strip_prefix("mod ")))
        .filter_map(|rest| rest.strip_suffix(';'))
        .enumerate()
        .map(|(place, name)| (name.to_owned(), place))
        .collect();
    for (module, place) in &order {
        for file in files_of(src, module) {
            let text = fs::read_to_string(&file).expect("a module has a file");
            // Tests may look wherever they like.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (other, other_place) in &order {
                let names = [format!("crate::{other}::"), format!("crate::{other};"), format!("crate::{{{other}")];
                if other_place > place && names.iter().any(|name| code.contains(name.as_str())) {
                    panic!("{room}: {module} ({}) uses {other}, which stands below it in lib.rs", file.display());
                }
            }
        }
    }
}

fn files_of(src: &Path, module: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let file = src.join(format!("{module}.rs"));
    if file.exists() {
        found.push(file);
    }
    let mut folders = vec![src.join(module)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// One file reads the clock; tests and the tools around the house are free to.
#[test]
fn only_the_clock_reads_the_clock() {
    for (room, _) in WALLS {
        let src = root().join("crates").join(room).join("src");
        for file in files_of(src.parent().expect("src has a crate"), "src") {
            if file.ends_with("net/src/clock.rs") {
                continue;
            }
            let text = fs::read_to_string(&file).expect("readable");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            assert!(!code.contains("SystemTime::now"), "{} reads the wall clock; ask net::clock", file.display());
        }
    }
}

/// A proof that is named is one that can be run.
#[test]
fn the_sources_name_tests_that_exist() {
    let text = fs::read_to_string(root().join("docs/sources.md")).expect("readable");
    let mut proofs = 0;
    for passage in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| passage")) {
        let named: Vec<&str> = passage.split('`').skip(1).step_by(2).collect();
        assert!(named.len().is_multiple_of(2), "a file and a test of it: {passage}");
        assert!(!named.is_empty() || passage.contains("not built"), "proved by nothing: {passage}");
        for proof in named.chunks(2) {
            let file = fs::read_to_string(root().join(proof[0])).unwrap_or_else(|_| panic!("no file {}", proof[0]));
            assert!(file.contains(&format!("fn {}()", proof[1])), "no test {} in {}", proof[1], proof[0]);
            proofs += 1;
        }
    }
    assert!(proofs > 20, "the table is not read: {proofs} proofs");
}

/// An unfinished thought may not land.
#[test]
fn nothing_is_left_unfinished() {
    let marks = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME")];
    let mut folders = vec![root().join("crates"), root().join("src"), root().join("xtask"), root().join("bench")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).expect("readable");
                for mark in marks {
                    assert!(!text.contains(mark), "{} holds {mark}", path.display());
                }
            }
        }
    }
}
