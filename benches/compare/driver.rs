//! The load that every client makes: closed loops of so many callers, or arrivals at a fixed rate.
//!
//! One process, one thread, one client. It says `measuring` when it is warm and `measured` when the
//! time is over, so that whoever started it can read the processor times of all processes at these
//! moments; then one line of JSON with what the callers saw.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::uri::PathAndQuery;
use http_body::Body as HttpBody;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::client::{Grpc, GrpcService};
use tonic_prost::ProstCodec;

pub(crate) use crate::host::HOST;
const METHOD: &str = "/bench.Catalog/Get";
/// As `google.protobuf.BytesValue` a message of six bytes, which gRPC frames with five more.
pub(crate) const PAYLOAD: &[u8] = b"item";
const WARM: Duration = Duration::from_millis(400);
/// Arrivals come in groups; a finer clock would cost the client more than what is measured.
const GROUP: Duration = Duration::from_millis(1);

/// How the client is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// So many callers, each of which calls again when it is answered.
    Closed { callers: usize },
    /// So many calls a second, whatever becomes of those before.
    Open { rate: u32 },
}

/// Something that makes a call.
pub(crate) trait Caller: Clone + Send + 'static {
    /// One call, to the last byte of its answer.
    fn call(&mut self) -> impl Future<Output = Result<(), String>> + Send;
}

/// A generated client over a channel.
#[derive(Clone, Debug)]
pub(crate) struct Generated<S>(Grpc<S>);

impl<S> Generated<S> {
    pub(crate) fn new(channel: S) -> Self {
        Self(Grpc::new(channel))
    }

    /// For channels that do not set it themselves.
    #[allow(dead_code, reason = "who shares this file does not need all of it")]
    pub(crate) fn with_origin(channel: S) -> Self {
        let origin = format!("http://{HOST}").parse();
        Self(Grpc::with_origin(
            channel,
            origin.expect("it is written above"),
        ))
    }
}

impl<S> Caller for Generated<S>
where
    S: GrpcService<tonic::body::Body, Future: Send> + Clone + Send + 'static,
    S::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <S::ResponseBody as HttpBody>::Error: Into<tonic::codegen::StdError> + Send,
{
    async fn call(&mut self) -> Result<(), String> {
        let ready = self.0.ready().await;
        ready.map_err(|error| format!("not ready: {}", error.into()))?;
        let request = tonic::Request::new(Bytes::from_static(PAYLOAD));
        let path = PathAndQuery::from_static(METHOD);
        let codec = ProstCodec::<Bytes, Bytes>::default();
        let answer = self.0.unary(request, path, codec).await;
        let answer = answer.map_err(|status| status.to_string())?.into_inner();
        match &*answer == PAYLOAD {
            true => Ok(()),
            false => Err(format!("the answer is {answer:?}")),
        }
    }
}

/// What the callers of one run saw.
#[derive(Debug)]
struct Seen {
    /// In nanoseconds.
    times: Histogram<u64>,
    failed: u64,
    why: String,
}

impl Seen {
    fn new() -> Self {
        let minute = Duration::from_secs(60).as_nanos() as u64;
        Self {
            times: Histogram::new_with_max(minute, 3).expect("three digits are few enough"),
            failed: 0,
            why: String::new(),
        }
    }

    fn note(&mut self, took: Duration, answer: Result<(), String>) {
        match answer {
            Ok(()) => self.times.saturating_record(took.as_nanos() as u64),
            Err(why) => {
                self.failed += 1;
                self.why = why;
            }
        }
    }
}

/// Which calls count: those that begin and end between the two marks. There is one thread, so the
/// lock is never waited for.
#[derive(Debug)]
struct Window {
    open: AtomicBool,
    over: AtomicBool,
    seen: Mutex<Seen>,
}

impl Window {
    fn note(&self, took: Duration, answer: Result<(), String>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.note(took, answer);
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Loads the client for so long and prints what was seen.
pub(crate) async fn run<C: Caller>(
    mut caller: C,
    load: Load,
    time: Duration,
) -> Result<(), String> {
    connected(&mut caller).await?;
    let window = Arc::new(Window {
        open: AtomicBool::new(false),
        over: AtomicBool::new(false),
        seen: Mutex::new(Seen::new()),
    });
    let callers: Vec<_> = match load {
        Load::Closed { callers } => (0..callers)
            .map(|_| tokio::spawn(closed(caller.clone(), window.clone())))
            .collect(),
        Load::Open { rate } => vec![tokio::spawn(open(caller, rate, window.clone()))],
    };
    tokio::time::sleep(WARM).await;
    say("measuring");
    window.open.store(true, Ordering::Relaxed);
    let began = Instant::now();
    tokio::time::sleep(time).await;
    window.over.store(true, Ordering::Relaxed);
    let took = began.elapsed();
    say("measured");
    for caller in callers {
        caller.await.map_err(|error| error.to_string())?;
    }
    say(&told(
        &window.seen.lock().unwrap_or_else(PoisonError::into_inner),
        took,
    ));
    // Whoever reads this process's memory says when it may go.
    let _ = std::io::stdin().read_line(&mut String::new());
    Ok(())
}

/// Waits for the first answer: a control plane, a proxy or a server may still be starting.
async fn connected<C: Caller>(caller: &mut C) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let why = match tokio::time::timeout(Duration::from_secs(5), caller.call()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(_) => "no answer within 5 s".into(),
        };
        if began.elapsed() > Duration::from_secs(15) {
            return Err(format!("no call succeeds: {why}"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn closed<C: Caller>(mut caller: C, window: Arc<Window>) {
    while !window.is_over() {
        let (counts, began) = (window.is_open(), Instant::now());
        let answer = caller.call().await;
        if counts && !window.is_over() {
            window.note(began.elapsed(), answer);
        }
    }
}

/// A thread of its own keeps the time: the client's may be busy, which is what shall be seen.
async fn open<C: Caller>(caller: C, rate: u32, window: Arc<Window>) {
    let (send, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    #[expect(clippy::disallowed_methods, reason = "this thread has no runtime")]
    let clock = std::thread::spawn(move || {
        let began = Instant::now();
        let mut sent = 0;
        for group in 1_u32.. {
            let due = began + GROUP * group;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let wanted = ((GROUP * group).as_secs_f64() * f64::from(rate)) as u64;
            if send.send((due, wanted - sent)).is_err() {
                return;
            }
            sent = wanted;
        }
    });
    let mut running = JoinSet::new();
    while let Some((due, count)) = arrivals.recv().await {
        if window.is_over() {
            break;
        }
        let counts = window.is_open();
        for _ in 0..count {
            let (mut caller, window) = (caller.clone(), window.clone());
            running.spawn(async move {
                let answer = caller.call().await;
                if counts {
                    window.note(due.elapsed(), answer);
                }
            });
        }
        while running.try_join_next().is_some() {}
    }
    drop(arrivals);
    let _ = clock.join();
    // All that began in time count, also those that end late.
    while running.join_next().await.is_some() {}
}

fn told(seen: &Seen, took: Duration) -> String {
    let micros = |share: f64| seen.times.value_at_quantile(share) as f64 / 1e3;
    let why = seen.why.replace(['"', '\\', '\n'], "'");
    format!(
        "{{\"calls\": {}, \"failed\": {}, \"why\": \"{why}\", \"seconds\": {}, \"p50\": {}, \"p99\": {}, \"p999\": {}}}",
        seen.times.len(),
        seen.failed,
        took.as_secs_f64(),
        micros(0.5),
        micros(0.99),
        micros(0.999),
    )
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    // Who does not listen has gone, and this process with it.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// `--callers N` or `--rate N`, and `--milliseconds N`.
pub(crate) fn wished(arguments: &[String]) -> Result<(Load, Duration), String> {
    let number = |name: &str| {
        let at = arguments.iter().position(|one| one == name)?;
        arguments.get(at + 1)?.parse::<u32>().ok()
    };
    let load = match (number("--callers"), number("--rate")) {
        (Some(callers), None) => Load::Closed {
            callers: callers as usize,
        },
        (None, Some(rate)) => Load::Open { rate },
        _ => return Err("one of --callers N and --rate N is wanted".into()),
    };
    let millis = number("--milliseconds").ok_or("--milliseconds N is wanted")?;
    Ok((load, Duration::from_millis(u64::from(millis))))
}

/// What follows an argument of this name.
pub(crate) fn value<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|one| one == name)?;
    arguments.get(at + 1).map(String::as_str)
}
