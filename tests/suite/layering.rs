//! Who may import whom, that every file says why it exists, and that no file grows beyond one job.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines a file may have.
const MOST_LINES: usize = 600;

/// For each room the rooms of this crate that it may name, beside itself and the base. `bin` sees the public API only.
const MAY: [(&str, &[&str]); 10] = [
    ("core", &[]),
    ("engine", &["core", "store", "shuffle"]),
    ("format", &[]),
    ("source", &["format", "query::map", "query::text"]),
    ("sink", &[]),
    ("query", &["checkpoint", "core", "engine", "format", "source", "store", "shuffle"]),
    ("stream", &["checkpoint", "core", "engine", "store", "shuffle"]),
    ("checkpoint", &["store"]),
    ("store", &[]),
    ("shuffle", &["core", "store"]),
];

/// Files that everyone may use and that use nothing but each other.
const BASE: [&str; 6] = ["error", "time", "hash", "memory", "metrics", "lib"];

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn files(of: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    of.iter().for_each(|dir| sources(&root.join(dir), &mut paths));
    assert!(!paths.is_empty());
    paths
        .into_iter()
        .map(|p| (p.strip_prefix(root).unwrap().to_string_lossy().into_owned(), fs::read_to_string(&p).unwrap()))
        .collect()
}

/// The paths behind `crate::` in code (comments and doc links aside).
fn imports(text: &str) -> Vec<String> {
    let code = text.lines().map(str::trim_start).filter(|l| !l.starts_with("//"));
    let mut found = Vec::new();
    for line in code {
        for (at, _) in line.match_indices("crate::") {
            let path: String =
                line[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
            found.push(path);
        }
    }
    found
}

#[test]
fn rooms_enter_only_the_rooms_they_may() {
    let mut checked = 0;
    for (file, text) in files(&["src"]) {
        let parts: Vec<&str> = file.split('/').collect();
        let room = parts[1].trim_end_matches(".rs");
        if BASE.contains(&room) || room == "bin" {
            let forbidden = imports(&text).into_iter().find(|p| {
                let first = p.split("::").next().unwrap_or("");
                room != "bin" && room != "lib" && MAY.iter().any(|(r, _)| *r == first)
            });
            assert_eq!(forbidden, None, "{file}");
            continue;
        }
        let (_, allowed) =
            MAY.iter().find(|(r, _)| *r == room).unwrap_or_else(|| panic!("{file}: a room that is not on the plan"));
        for path in imports(&text) {
            let first = path.split("::").next().unwrap_or("").to_owned();
            let is_room = MAY.iter().any(|(r, _)| *r == first);
            // The bridge between the faces is the one file that knows both.
            let bridge = file == "src/stream/bridge.rs" && first == "query";
            let may =
                bridge || first == room || allowed.iter().any(|a| path == *a || path.starts_with(&format!("{a}::")));
            assert!(!is_room || may, "{file} imports crate::{path}");
            checked += 1;
        }
    }
    assert!(checked > 50, "the check looked at {checked} imports only");
}

#[test]
fn the_core_is_pure() {
    for (file, text) in files(&["src/core"]) {
        for word in ["arrow_", "rayon", "std::fs", "std::thread", "std::time", "Instant::"] {
            let used = text.lines().any(|l| !l.trim_start().starts_with("//") && l.contains(word));
            assert!(!used, "{file} uses {word}");
        }
    }
}

#[test]
fn every_file_opens_with_why_it_exists_and_has_one_job() {
    for (file, text) in files(&["src", "tests", "benches", "tools"]) {
        assert!(text.starts_with("//!"), "{file} does not open with //!");
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{file} has {lines} lines");
    }
}

#[test]
fn the_top_level_holds_what_it_should() {
    let mut names: Vec<String> = fs::read_dir(env!("CARGO_MANIFEST_DIR"))
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|n| !n.starts_with('.') && !["target", "proptest-regressions"].contains(&n.as_str()))
        .collect();
    names.sort();
    let may =
        ["Cargo.lock", "Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "benches", "src", "tests", "tools"];
    for name in names {
        assert!(may.contains(&name.as_str()), "{name} does not belong on the top level");
    }
}
