//! What the xDS server costs, and on the same schedule go-control-plane's and one that says the same bytes
//! and knows nothing (`bare`), which is the floor: streams held, memory of each, the first state to all at once, one change pushed to all.
//!
//! ```sh
//! cargo bench --all-features --bench control                      # 1,000 streams
//! cargo bench --all-features --bench control -- --streams 10000
//! cargo bench --all-features --bench control -- --peer meshwork --variant delta
//! cargo bench --all-features --bench control -- --publish         # 1,000 and 10,000, into docs/PERFORMANCE.md
//! ```
//!
//! The server is a process of its own with one thread to work on (`GOMAXPROCS=1` for Go); all
//! clients are in this process. Each client is a connection with one stream (`client`), as real ones
//! are. They begin together, which is the storm behind a restart. Then one endpoint changes,
//! twenty times; the time is from the publication to the last client's receipt.
//!
//! What the server holds is from `/proc`: memory per stream is the resident set with all streams
//! in sync, without what it had before the first one came; processor time is user and system.

mod bare;
mod client;
mod document;
mod mesh;
mod peer;
mod table;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use client::Progress;
use peer::{Peer, Running, Variant};
use tokio::time::Instant;

const PUSHES: u32 = 20;
const USAGE: &str = "arguments: [--streams N] [--peer meshwork|bare|go-control-plane] [--variant sotw|delta] \
                     [--publish]";

/// What one server costs with so many streams.
#[derive(Debug)]
pub(crate) struct Cost {
    pub(crate) peer: Peer,
    pub(crate) variant: Variant,
    pub(crate) streams: usize,
    pub(crate) first: Duration,
    pub(crate) first_processor: Duration,
    /// Bytes of one stream.
    pub(crate) memory: usize,
    /// From the publication to the last receipt, sorted.
    pub(crate) pushes: Vec<Duration>,
    /// Processor time of one push.
    pub(crate) push_processor: Duration,
}

/// What shall be measured.
#[derive(Debug)]
struct Wish {
    streams: Vec<usize>,
    peers: Vec<Peer>,
    variants: Vec<Variant>,
    publish: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo adds `--bench`.
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if arguments.contains(&"--serve") {
        peer::serve();
        return ExitCode::SUCCESS;
    }
    if arguments.contains(&"--serve-bare") {
        bare::serve();
        return ExitCode::SUCCESS;
    }
    let done = wish(&arguments).and_then(|wish| {
        let costs = measure(&wish)?;
        print!("{}", table::costs(&costs));
        match wish.publish {
            true => table::publish(&costs),
            false => Ok(()),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn wish(arguments: &[&str]) -> Result<Wish, String> {
    let mut wish = Wish {
        streams: vec![1_000],
        peers: vec![Peer::Bare, Peer::Meshwork, Peer::GoControlPlane],
        variants: vec![Variant::Sotw, Variant::Delta],
        publish: false,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().copied().unwrap_or_default();
        match *argument {
            "--bench" => {}
            "--publish" => (wish.publish, wish.streams) = (true, vec![1_000, 10_000]),
            "--streams" => match value().parse() {
                Ok(streams) if streams > 0 => wish.streams = vec![streams],
                _ => return Err(format!("--streams takes a number above 0; {USAGE}")),
            },
            "--peer" => match value() {
                "bare" => wish.peers = vec![Peer::Bare],
                "go-control-plane" => wish.peers = vec![Peer::GoControlPlane],
                "meshwork" => wish.peers = vec![Peer::Meshwork],
                other => return Err(format!("{other:?} is no peer; {USAGE}")),
            },
            "--variant" => match value() {
                "delta" => wish.variants = vec![Variant::Delta],
                "sotw" => wish.variants = vec![Variant::Sotw],
                other => return Err(format!("{other:?} is no variant; {USAGE}")),
            },
            other => return Err(format!("{other:?} is not known; {USAGE}")),
        }
    }
    Ok(wish)
}

fn measure(wish: &Wish) -> Result<Vec<Cost>, String> {
    let mut costs = Vec::new();
    for streams in &wish.streams {
        for variant in &wish.variants {
            for peer in &wish.peers {
                let cost = one(*peer, *variant, *streams);
                let cost = cost.map_err(|why| format!("{}: {why}", peer.name()))?;
                eprintln!("{} {} {streams}: done", peer.name(), variant.name());
                costs.push(cost);
            }
        }
    }
    Ok(costs)
}

fn one(peer: Peer, variant: Variant, streams: usize) -> Result<Cost, String> {
    let mut server = Running::start(peer)?;
    let runtime = peer::runtime();
    let progress = Arc::new(Progress::default());
    let (memory, processor, began) = (server.resident()?, server.processor()?, Instant::now());
    let clients = {
        let _in = runtime.enter();
        client::start(server.address, variant, streams, &progress)
    };
    runtime.block_on(progress.synced(streams))?;
    let first = began.elapsed();
    let first_processor = server.processor()? - processor;
    let memory = server.resident()?.saturating_sub(memory) / streams;
    let mut pushes = Vec::new();
    let processor = server.processor()?;
    for push in 1..=PUSHES {
        let began = Instant::now();
        server.push(push)?;
        runtime.block_on(progress.pushed(streams * push as usize))?;
        pushes.push(began.elapsed());
    }
    let push_processor = (server.processor()? - processor) / PUSHES;
    pushes.sort();
    drop(clients);
    runtime.shutdown_background();
    Ok(Cost {
        peer,
        variant,
        streams,
        first,
        first_processor,
        memory,
        pushes,
        push_processor,
    })
}
