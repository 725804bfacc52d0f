//! A mesh under steady load and steady edits keeps its size (row G17 of the catalogue).
//!
//! Memory is a matter of the whole process, and this one runs other tests. So the test starts its own
//! program again with nothing but the load in it, and looks at what that one reports.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use meshwork::Mesh;
use meshwork::model::Resources;
use meshwork::model::cluster::{Cluster, Protocol};
use meshwork::model::endpoint::Address;
use meshwork::model::outlier::Outlier;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::world::{Break, call, cluster, get, one, retries, text};

/// Where the child finds how long it shall run, in milliseconds; absent: it is not the child.
const CHILD: &str = "MESHWORK_SOAK";

/// What the child saw, between the end of its warm-up and its own end.
#[derive(Debug)]
struct Growth {
    calls: u64,
    failures: u64,
    edits: u64,
    kibibytes: i64,
    files: i64,
    tasks: i64,
}

#[test]
#[cfg(target_os = "linux")]
fn g17_load_and_edits_leave_memory_files_and_tasks_as_they_are() {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args(["mesh::soak::child", "--exact", "--ignored", "--nocapture"])
        .env(CHILD, "4000")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find_map(|line| line.split_once("SOAK "))
        .unwrap_or_else(|| {
            panic!(
                "the child said nothing: {text}{}",
                String::from_utf8_lossy(&output.stderr)
            )
        });
    let numbers: Vec<i64> = line
        .1
        .split(' ')
        .map(|number| number.parse().unwrap())
        .collect();
    let growth = Growth {
        calls: numbers[0] as u64,
        failures: numbers[1] as u64,
        edits: numbers[2] as u64,
        kibibytes: numbers[3],
        files: numbers[4],
        tasks: numbers[5],
    };
    assert!(
        growth.calls > 500 && growth.edits > 50,
        "it did not run: {growth:?}"
    );
    assert_eq!(growth.failures, 0, "{growth:?}");
    // The allocator keeps what it once had; what leaks goes on growing. A leak of 100 bytes for a
    // call, or of 4 KiB for an edit, would be seen.
    let leak = (growth.calls * 100 + growth.edits * 4_096) / 1_024;
    let leak = i64::try_from(leak).unwrap().max(2_048);
    assert!(growth.kibibytes < leak, "{growth:?}");
    assert!(growth.files.abs() <= 40, "{growth:?}");
    assert!(growth.tasks.abs() <= 80, "{growth:?}");
}

/// The load, in a process of its own.
#[test]
#[ignore = "started by g17_load_and_edits_leave_memory_files_and_tasks_as_they_are"]
fn child() {
    let Ok(time) = std::env::var(CHILD) else {
        return;
    };
    let time = Duration::from_millis(time.parse().unwrap());
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    println!("SOAK {}", runtime.block_on(load(time)));
}

async fn backend(name: &'static str) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let service =
                    hyper::service::service_fn(move |_| async move { Ok::<_, Break>(text(name)) });
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Address::Socket(address)
}

/// Two of the backends, in turn others, with settings that change too.
fn edition(number: u64, backends: &[Address]) -> Resources {
    let protocol = if number % 7 < 4 {
        Protocol::Http2
    } else {
        Protocol::Http1
    };
    let cluster = Cluster {
        outlier: Some(Outlier::default().into()),
        connect_timeout: Duration::from_secs(5 + number % 3),
        ..cluster("c", protocol)
    };
    let mut resources = one(cluster, &[1, 2], |to| to.retry = Some(retries(2, None)));
    let mut endpoints = super::world::endpoints("c", &[1, 2]);
    for offset in 0..2 {
        let index = (usize::try_from(number).unwrap() + offset) % backends.len();
        endpoints.localities[0].endpoints[offset].address = backends[index].clone();
    }
    resources.insert_endpoints(endpoints);
    resources
}

async fn load(time: Duration) -> String {
    let mut backends = Vec::new();
    for name in ["a", "b", "c", "d"] {
        backends.push(backend(name).await);
    }
    let (publisher, feed) = meshwork::source::feed(edition(0, &backends));
    let mesh = Mesh::builder().feed(feed).start().await.unwrap();
    let (calls, failures) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..8 {
        let (mesh, stop) = (mesh.clone(), stop.clone());
        let (calls, failures) = (calls.clone(), failures.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let failed = !matches!(call(&mesh, get("http://catalog/")).await, Ok((200, _)));
                failures.fetch_add(u64::from(failed), Ordering::Relaxed);
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut edits = 0;
    let mut edit_for = async |time: Duration| {
        let until = Instant::now() + time;
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        let before = edits;
        while Instant::now() < until {
            ticks.tick().await;
            edits += 1;
            publisher.publish(edition(edits, &backends)).await.unwrap();
        }
        edits - before
    };
    // A third of the time for all buffers to find their size.
    edit_for(time / 3).await;
    let before = (calls.load(Ordering::Relaxed), Size::now());
    let edited = edit_for(time).await;
    let after = (calls.load(Ordering::Relaxed), Size::now());
    stop.store(true, Ordering::Relaxed);
    format!(
        "{} {} {edited} {} {} {}",
        after.0 - before.0,
        failures.load(Ordering::Relaxed),
        after.1.kibibytes - before.1.kibibytes,
        after.1.files - before.1.files,
        after.1.tasks - before.1.tasks,
    )
}

/// What this process takes.
struct Size {
    kibibytes: i64,
    files: i64,
    tasks: i64,
}

impl Size {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.trim().strip_suffix(" kB"));
        let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let tasks = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        Self {
            kibibytes: resident.and_then(|text| text.parse().ok()).unwrap_or(0),
            files: i64::try_from(files).unwrap(),
            tasks: i64::try_from(tasks).unwrap(),
        }
    }
}
