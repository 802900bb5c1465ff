//! The arrows between crates, and which file may name which driver: ARCHITECTURE.md's list, held.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

/// Which of our crates a crate may depend on. What is not listed may not be depended on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("rpc", &["proto"]),
    ("mesh", &["proto", "rpc"]),
    ("bus", &["proto"]),
    ("pg", &[]),
    ("cache", &[]),
    ("auth", &["proto", "rpc"]),
    ("seal", &[]),
    ("transcode", &[]),
    // A template database is migrated exactly as production is.
    ("stack", &["pg"]),
    ("service", &["proto", "rpc", "mesh", "bus"]),
    ("control", &["proto", "rpc", "mesh", "service"]),
    ("identity", SERVICE),
    ("links", SERVICE),
    ("analytics", SERVICE),
    ("edge", &["proto", "rpc", "mesh", "bus", "cache", "auth", "service", "transcode"]),
    ("load", &["proto"]),
    // A stranger's program: it needs the mesh, and nothing else of ours.
    ("hello", &["mesh"]),
];

const SERVICE: &[&str] = &["proto", "rpc", "mesh", "bus", "pg", "cache", "auth", "seal", "service"];

/// Crates that stand on top and may see everything.
const TOP: &[&str] = &["linkmesh", "bench", "system-tests", "conformance"];

/// Where a driver may be named. `stack`, `tests` and the bench may name any client.
const DRIVERS: &[(&str, &[&str])] = &[
    ("etcd_client", &["libs/mesh/src/etcd/"]),
    ("rdkafka", &["libs/bus/"]),
    ("sqlx", &["libs/pg/", "/store.rs", "/store/"]),
    ("redis", &["libs/cache/", "edge/src/limits/store.rs"]),
    ("bb8_redis", &["libs/cache/"]),
];

/// What a `domain.rs` knows nothing of.
const NOT_IN_DOMAIN: &[&str] = &["proto", "prost", "tonic", "sqlx", "bus", "tokio"];

fn workspace() -> cargo_metadata::Metadata {
    cargo_metadata::MetadataCommand::new().no_deps().exec().expect("cargo is installed")
}

#[test]
fn crates_depend_only_along_the_allowed_arrows() {
    let metadata = workspace();
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in metadata.packages.iter().filter(|p| !TOP.contains(&p.name.as_str())) {
        let Some(may) = allowed.get(package.name.as_str()) else {
            wrong.push(format!("{} is not in the list of crates", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let is_normal = dependency.kind == cargo_metadata::DependencyKind::Normal;
            let name = dependency.name.as_str();
            if is_normal && ours.contains(name) && !may.contains(&name) {
                wrong.push(format!("{} -> {name}", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that ARCHITECTURE.md does not allow: {wrong:#?}");
}

#[test]
fn only_the_binary_and_the_tests_see_more_than_one_service() {
    let services = ["control", "identity", "links", "analytics", "edge"];
    for package in workspace().packages.iter().filter(|p| !TOP.contains(&p.name.as_str())) {
        for dependency in &package.dependencies {
            assert!(
                !services.contains(&dependency.name.as_str()),
                "{} depends on {}, tests included",
                package.name,
                dependency.name
            );
        }
    }
}

#[test]
fn drivers_are_named_only_where_they_belong() {
    let mut wrong = Vec::new();
    for (path, text) in sources(&["libs", "services", "edge"]) {
        let is_exempt = path.starts_with("libs/stack/") || path.contains("/tests/");
        if is_exempt {
            continue;
        }
        for (driver, homes) in DRIVERS {
            if names(&text, driver) && !homes.iter().any(|home| path.contains(home)) {
                wrong.push(format!("{path} names {driver}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn domains_know_neither_wire_nor_store_nor_runtime() {
    let mut wrong = Vec::new();
    for (path, text) in sources(&["services", "edge"]) {
        if path.ends_with("/domain.rs") || path.contains("/domain/") {
            let named = NOT_IN_DOMAIN.iter().filter(|module| names(&text, module));
            wrong.extend(named.map(|module| format!("{path} names {module}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_crate_is_a_dumping_ground() {
    for package in workspace().packages {
        assert!(
            !["common", "utils", "util", "types", "helpers", "shared"]
                .contains(&package.name.as_str()),
            "{} says nothing of what it is for",
            package.name
        );
    }
}

/// Whether code (not comments) begins a path with `module`.
fn names(text: &str, module: &str) -> bool {
    let start = format!("{module}::");
    text.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| {
        line.match_indices(&start).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
        })
    })
}

/// Every Rust file under the folders, by its path from the root, build scripts left out.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root");
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder is part of the layout") {
            let path = entry.expect("it was just listed").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("build.rs") {
                let name = path.strip_prefix(root).expect("it lies below").display().to_string();
                found.push((name, std::fs::read_to_string(&path).expect("source is UTF-8")));
            }
        }
    }
    assert!(!found.is_empty(), "the search finds the sources");
    found
}
