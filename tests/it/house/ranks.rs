//! Which module may know which: the design in one table, held by reading the sources.

use std::collections::BTreeMap;

use super::tree::{File, files, words};

/// From the bottom to the top. A module may name those of lower rows; those of one row do not know
/// each other.
const RANKS: &[&[&str]] = &[
    &["error", "random"],
    &["body", "list", "name", "protobuf"],
    &["model"],
    &["filter", "workload"],
    &["layer", "tls"],
    &["event", "operator", "telemetry", "transport"],
    &["dns"],
    &["snapshot"],
    &["source"],
    &["outbound"],
    &["admin", "control", "explain", "inbound"],
    &["mesh"],
    &["testing"],
];

fn rank(module: &str) -> Option<usize> {
    RANKS.iter().position(|row| row.contains(&module))
}

/// The library's files. The binary is a crate of its own that only sees the public face.
fn library() -> Vec<File> {
    let all = files("src", "rs").into_iter();
    let library: Vec<File> = all
        .filter(|file| !file.path.starts_with("src/bin/") && file.path != "src/lib.rs")
        .collect();
    assert!(
        library.len() > 100,
        "the sources have moved away from this test"
    );
    library
}

/// What stands behind each `crate::` of a line.
fn named(code: &str) -> impl Iterator<Item = &str> {
    code.match_indices("crate::").map(|(at, begin)| {
        let rest = &code[at + begin.len()..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

#[test]
fn every_module_has_a_rank_and_every_rank_a_module() {
    let library = library();
    for file in &library {
        let module = file.modules()[0];
        assert!(
            rank(module).is_some(),
            "{}: give {module} a rank here and in docs/ARCHITECTURE.md",
            file.path
        );
    }
    for module in RANKS.concat() {
        let known = library.iter().any(|file| file.modules()[0] == module);
        assert!(known, "there is no module {module}");
    }
}

#[test]
fn a_use_points_down() {
    let mut seen = 0;
    for file in library() {
        let own = file.modules()[0];
        for (line, code) in file.code() {
            for other in named(code).filter(|other| *other != own) {
                seen += 1;
                let place = format!("{}:{line}", file.path);
                assert!(!other.is_empty(), "{place}: one module per use, please");
                // The root's re-exports would hide which module is meant; examples may use them.
                let Some(below) = rank(other) else {
                    panic!("{place}: {other} is no module of the table of ranks");
                };
                assert!(
                    Some(below) < rank(own),
                    "{place}: {own} must not know {other}"
                );
            }
        }
    }
    assert!(seen > 200, "only {seen} uses were found");
}

#[test]
fn outbound_never_names_a_source() {
    for file in library()
        .iter()
        .filter(|file| file.modules()[0] == "outbound")
    {
        for (line, code) in file.code() {
            let source = words(code).any(|word| word == "istio" || word == "Feed")
                || code.contains("source::");
            assert!(!source, "{}:{line}: {code}", file.path);
        }
    }
}

#[test]
fn types_of_files_stay_in_the_source_that_reads_them() {
    const FILE_TYPES: &[&str] = &["granit_parser", "notify", "schemars", "serde", "serde_json"];
    let mut inside = 0;
    for file in library() {
        let reads = [
            "src/source/",
            "src/control/",
            "src/inbound/token/",
            "src/tls/bundle_map.rs",
        ]
        .iter()
        .any(|place| file.path.starts_with(place));
        for (line, code) in file.code() {
            let wire = words(code).any(|word| FILE_TYPES.contains(&word));
            inside += usize::from(wire && reads);
            assert!(!wire || reads, "{}:{line}: {code}", file.path);
        }
    }
    assert!(
        inside > 20,
        "the source of YAML has moved away from this test"
    );
}

/// Messages of the wire become values where they arrive. Other protocols than xDS have one file each.
#[test]
fn types_of_the_wire_stay_where_messages_arrive() {
    const WIRE: &[&str] = &[
        "envoy_types",
        "prost",
        "prost_reflect",
        "prost_types",
        "tonic",
        "tonic_health",
        "tonic_prost",
        "tonic_reflection",
    ];
    const FOLDERS: &[&str] = &["src/source/xds/", "src/control/"];
    const FILES: &[&str] = &[
        "src/inbound/authorizer/grpc.rs",
        "src/outbound/orca.rs",
        // What a generated client says that it calls.
        "src/telemetry/method.rs",
        "src/tls/csr.rs",
    ];
    for file in library() {
        let listed = FILES.contains(&&*file.path)
            || FOLDERS.iter().any(|folder| file.path.starts_with(folder));
        for (line, code) in file.code() {
            let wire = words(code).any(|word| WIRE.contains(&word));
            assert!(!wire || listed, "{}:{line}: {code}", file.path);
        }
    }
}

#[test]
fn the_configuration_in_force_is_loaded_at_listed_places() {
    // One for each request; the others hold no request: views, edits, sweeps, the end.
    let listed = BTreeMap::from([
        ("src/admin/answer.rs", 3),
        ("src/explain/mod.rs", 1),
        // For each request that arrives, and again for one under way when there is another.
        ("src/inbound/door.rs", 1),
        ("src/inbound/listener.rs", 1),
        // For each connection that a control plane has a word in, each request of it, and for whether
        // its port serves.
        ("src/inbound/served.rs", 3),
        ("src/mesh.rs", 2),
        // The last one for reports of load.
        ("src/mesh/tasks.rs", 7),
        ("src/outbound/mod.rs", 1),
        ("src/outbound/route.rs", 1),
    ]);
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for file in library() {
        let code: String = file
            .code()
            .flat_map(|(_, code)| code.split_whitespace())
            .collect();
        let loads = code.matches("live.load()").count() + code.matches("live.load_full()").count();
        if loads > 0 {
            found.insert(file.path, loads);
        }
    }
    let found: BTreeMap<&str, usize> = found.iter().map(|(path, n)| (&**path, *n)).collect();
    assert_eq!(
        found, listed,
        "a request must see one configuration from its begin to its end"
    );
}

#[test]
fn time_comes_from_tokio() {
    // `retry-after` may be a date, the only time on the wire that is no duration.
    const WALL_CLOCK: &[&str] = &[
        // Lines of a log are for people, who know no other clock.
        "src/telemetry/access/entry.rs",
        "src/telemetry/access/time.rs",
        "src/layer/retry/policy.rs",
        "src/layer/retry/pushback.rs",
        // A line in an audit log has a date.
        "src/inbound/audit.rs",
        // Whether a certificate is valid is a question to the calendar.
        "src/tls/clock.rs",
        // When a file was written, to be compared with itself.
        "src/tls/files.rs",
        "src/control/ca/keeper.rs",
    ];
    for file in library() {
        let listed = WALL_CLOCK.contains(&&*file.path);
        for (line, code) in file.code() {
            let place = format!("{}:{line}: {code}", file.path);
            let clock = code.contains("std::time") && words(code).any(|word| word == "Instant");
            assert!(!clock, "{place}");
            assert!(
                listed || !words(code).any(|word| word == "SystemTime"),
                "{place}"
            );
        }
    }
}

#[test]
fn chance_is_injected() {
    for file in library().iter().filter(|file| file.path != "src/random.rs") {
        for (line, code) in file.code() {
            let global = words(code).any(|word| word == "fastrand");
            assert!(!global, "{}:{line}: {code}", file.path);
        }
    }
}

/// Every request passes these files between its route and its endpoint. Benchmarks count what that
/// costs; this names what must not come back.
#[test]
fn the_way_from_route_to_pick_takes_no_lock_and_builds_no_text() {
    const WAY: &[&str] = &[
        "src/layer/balance/balancer.rs",
        "src/layer/balance/draw.rs",
        "src/layer/balance/index.rs",
        "src/layer/balance/pool.rs",
        "src/layer/balance/shares.rs",
        "src/layer/balance/sorted.rs",
        "src/layer/balance/tier.rs",
        "src/list/tree.rs",
        "src/layer/limit/gauge.rs",
        "src/layer/limit/mod.rs",
        "src/outbound/attempt.rs",
        "src/outbound/lease.rs",
        "src/outbound/route.rs",
        "src/snapshot/gate.rs",
    ];
    const BANNED: &[&str] = &[
        ".lock()",
        ".read()",
        ".write()",
        "HashMap",
        "BTreeMap",
        "String::",
        "format!",
        ".to_owned()",
        "error!(",
        "warn!(",
        "info!(",
        "debug!(",
    ];
    let library = library();
    for path in WAY {
        let file = library.iter().find(|file| file.path == **path);
        let file = file.unwrap_or_else(|| panic!("{path} has moved away from this test"));
        for (line, code) in file
            .code()
            .take_while(|(_, code)| code.trim() != "#[cfg(test)]")
        {
            let place = format!("{path}:{line}: {code}");
            assert!(
                !BANNED.iter().any(|banned| code.contains(banned)),
                "{place}"
            );
            // A text for a report is only made if somebody asked for one.
            let lazily = code.contains("|| ");
            assert!(lazily || !code.contains(".to_string()"), "{place}");
        }
    }
}
