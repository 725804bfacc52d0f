//! The scenes, in the order they are played.
//!
//! The ejected backend comes back at the first sweep after its ejection time, so it is ejected early
//! and the edits are shown while it is away.

use std::num::NonZeroU32;
use std::time::Duration;

use meshwork::source::istio::{Options, Severity, check};
use tokio::time::Instant;

use super::files::Routing;
use super::stage::{Stage, sums};
use super::traffic::{Calls, Counts};
use crate::call::{Answer, Status, Template, send, share};
use crate::echo::{Conduct, Share};

/// Longer than any call waits.
const FOR_EVER: Duration = Duration::from_secs(3_600);
/// How far a share may be from what the dice promise, in standard deviations.
const DEVIATIONS: f64 = 5.0;
/// Enough calls to judge a share by, and to see that something always or never happens.
const TO_JUDGE: u64 = 300;
const TO_SEE: u64 = 50;
/// How much later than told a timeout may be seen, on a loaded machine.
const SLACK: Duration = Duration::from_secs(2);
/// How late the beginning of an ejection may be seen: the table is drawn five times a second.
const LATE: Duration = Duration::from_millis(500);

/// The backends that the scenes mistreat.
const A: usize = 0;
const B: usize = 1;
const V2: usize = 2;

/// Plays all scenes.
pub(super) async fn play(stage: &mut Stage) -> anyhow::Result<()> {
    protocols(stage).await?;
    split(stage).await?;
    header(stage).await?;
    retries(stage).await?;
    let ejected = ejection(stage).await?;
    edit(stage).await?;
    slip(stage).await?;
    comeback(stage, ejected).await?;
    timeout(stage).await
}

async fn protocols(stage: &mut Stage) -> anyhow::Result<()> {
    stage.open(
        "Three backends, three protocols",
        "v1-a, v1-b and v2 are up; the name of a service's port says what is spoken.",
    )?;
    let told = |template: Result<Template, String>| template.map_err(anyhow::Error::msg);
    for (name, template, protocol, status) in [
        (
            "http",
            told(Template::get("http://catalog/"))?,
            "HTTP/1.1",
            Status::Http(200),
        ),
        (
            "http2",
            told(Template::get("http://catalog-h2/"))?,
            "HTTP/2.0",
            Status::Http(200),
        ),
        (
            "grpc",
            told(Template::grpc(
                "http://catalog-grpc",
                "meshwork.echo.v1.Echo/Unary",
            ))?,
            "HTTP/2.0",
            Status::Grpc(0),
        ),
    ] {
        let answer = send(&stage.client, &template, Instant::now()).await;
        let spoken = answer
            .echo
            .as_ref()
            .map_or("nothing", |echo| &echo.protocol);
        let kept = spoken == protocol && answer.status == status;
        let error = answer.error.as_deref().unwrap_or("answered");
        stage.found(
            kept,
            &format!("port {name}: {spoken}, {}, {error}", text(answer.status)),
        )?;
    }
    Ok(())
}

fn text(status: Status) -> String {
    match status {
        Status::Grpc(code) => format!("grpc-status {code}"),
        Status::Http(code) => format!("status {code}"),
    }
}

async fn split(stage: &mut Stage) -> anyhow::Result<()> {
    stage.open(
        "The canary",
        "The VirtualService sends 90 % to v1 and 10 % to v2.",
    )?;
    let counts = stage.act(Calls::Plain, 10, TO_JUDGE).await?;
    let kept = near(counts.of("v2"), counts.calls, 0.1) && clean(&counts);
    stage.found(
        kept,
        &format!("{}, {} to v2", told(&counts), share_of_v2(&counts)),
    )
}

async fn header(stage: &mut Stage) -> anyhow::Result<()> {
    stage.open("The header", "Requests with `x-canary: true` all go to v2.")?;
    let counts = stage.act(Calls::Canary, 4, TO_SEE).await?;
    let kept = counts.of("v2") == counts.calls && clean(&counts);
    stage.found(
        kept,
        &format!("{}, {} to v2", told(&counts), share_of_v2(&counts)),
    )
}

async fn retries(stage: &mut Stage) -> anyhow::Result<()> {
    stage.open(
        "Retries",
        "The article's second VirtualService is written, and v1-b fails one call of four.",
    )?;
    // The files first: until they are in force nobody saves a call that fails.
    in_force(stage, Routing::Resilience).await?;
    stage.backends.all[B].behave(Conduct {
        fail_every: NonZeroU32::new(4),
        ..Conduct::default()
    });
    let counts = stage.act(Calls::Plain, 7, TO_SEE).await?;
    let kept = counts.retries > 0 && counts.of("v2") == 0 && clean(&counts);
    stage.found(
        kept,
        &format!("{}, {} retries elsewhere", told(&counts), counts.retries),
    )
}

/// When the backend was ejected.
async fn ejection(stage: &mut Stage) -> anyhow::Result<Instant> {
    stage.open(
        "Ejection",
        "v1-b fails every call: three in a row, and it is out.",
    )?;
    let (before, _) = stage.ejections();
    stage.traffic.begin(Calls::Plain);
    stage.backends.all[B].behave(Conduct {
        fail: Share::ALL,
        ..Conduct::default()
    });
    let ejected = stage
        .watch(Duration::ZERO, Duration::from_secs(10), |_, stats| {
            sums(stats).0 > before
        })
        .await?;
    let at = Instant::now();
    let counts = stage.traffic.scene();
    stage.found(
        ejected && clean(&counts),
        &format!("v1-b is ejected; {}", told(&counts)),
    )?;
    stage.backends.all[B].behave(Conduct::default());
    stage.say("v1-b is well again, but nobody asks it:")?;
    let counts = stage.act(Calls::Plain, 4, TO_SEE).await?;
    let kept = counts.of("v1-b") == 0 && clean(&counts);
    stage.found(
        kept,
        &format!("{}, {} answered by v1-b", told(&counts), counts.of("v1-b")),
    )?;
    Ok(at)
}

async fn edit(stage: &mut Stage) -> anyhow::Result<()> {
    stage.open(
        "An edit",
        "The files now say 50 % to v2; the mesh goes on running.",
    )?;
    in_force(stage, Routing::Halves).await?;
    let counts = stage.act(Calls::Plain, 6, TO_JUDGE).await?;
    let kept = near(counts.of("v2"), counts.calls, 0.5) && clean(&counts);
    stage.found(
        kept,
        &format!("{}, {} to v2", told(&counts), share_of_v2(&counts)),
    )
}

async fn slip(stage: &mut Stage) -> anyhow::Result<()> {
    stage.open(
        "A bad edit",
        "Somebody writes `atempts`: nothing changes, and check says why.",
    )?;
    let before = stage.mesh.generation();
    stage.folder.write(Routing::Slip)?;
    // Longer than the second within which a good edit would be in force.
    let counts = stage.act(Calls::Plain, 8, TO_JUDGE).await?;
    let faults = check(stage.folder.path(), &[], &Options::default()).faults;
    if let Some(fault) = faults
        .iter()
        .find(|fault| fault.severity() == Severity::Error)
    {
        let hint = fault.hint().unwrap_or_default();
        stage.say(&format!(
            "routing.yaml:{}: {}; {hint}",
            fault.line(),
            fault.message()
        ))?;
    }
    let same = stage.mesh.generation() == before;
    let kept = same && near(counts.of("v2"), counts.calls, 0.5) && clean(&counts);
    let found = format!("{}, still {} to v2", told(&counts), share_of_v2(&counts));
    stage.found(kept && faults.has_errors(), &found)
}

async fn comeback(stage: &mut Stage, ejected: Instant) -> anyhow::Result<()> {
    let time = stage.pace.ejection();
    stage.open(
        "The comeback",
        &format!("v1-b is back at the first look after {time:?} of ejection."),
    )?;
    stage.traffic.begin(Calls::Plain);
    let mut back = None;
    let patience = stage.pace.patience();
    stage
        .watch(stage.pace.scene(3), patience, |scene, stats| {
            if sums(stats).1 > 0 {
                back.get_or_insert_with(|| ejected.elapsed());
            }
            back.is_some() && scene.of("v1-b") > 0
        })
        .await?;
    let counts = stage.act(Calls::Plain, 8, TO_JUDGE).await?;
    let answers = counts.of("v1-b");
    // Its beginning may have been seen late, and then it seems that much too short.
    let kept = back.is_some_and(|back| back + LATE >= time) && answers > 0 && clean(&counts);
    let back = back.map_or("never back".to_owned(), |back| {
        format!("back after {back:.1?}")
    });
    stage.found(
        kept,
        &format!("{back}; {}, {answers} answered by v1-b", told(&counts)),
    )
}

async fn timeout(stage: &mut Stage) -> anyhow::Result<()> {
    let (per_try, whole) = (stage.pace.per_try(), stage.pace.timeout());
    stage.open(
        "The timeout",
        &format!("v1 hangs: each try is cut after {per_try:?}, the call after {whole:?}."),
    )?;
    stage.traffic.begin(Calls::None);
    in_force(stage, Routing::Resilience).await?;
    for backend in [A, B] {
        stage.backends.all[backend].behave(Conduct {
            delay: FOR_EVER,
            ..Conduct::default()
        });
    }
    let template = Template::get("http://catalog/items").map_err(anyhow::Error::msg)?;
    let client = stage.client.clone();
    let call = tokio::spawn(async move { send(&client, &template, Instant::now()).await });
    stage
        .watch(Duration::ZERO, whole + SLACK, |_, _| call.is_finished())
        .await?;
    let answer = call.await?;
    for backend in [A, B] {
        stage.backends.all[backend].behave(Conduct::default());
    }
    judge_timeout(stage, &answer, per_try, whole)
}

fn judge_timeout(
    stage: &mut Stage,
    answer: &Answer,
    per_try: Duration,
    whole: Duration,
) -> anyhow::Result<()> {
    let tries = answer.report.attempts();
    for (number, attempt) in (1..).zip(&tries) {
        stage.say(&format!(
            "try {number} at {}: {}",
            attempt.endpoint, attempt.outcome
        ))?;
    }
    let expected = format!("per-try timeout of {per_try:?}");
    let cut = tries
        .iter()
        .filter(|attempt| attempt.outcome.contains(&expected));
    let in_time = (whole..whole + SLACK).contains(&answer.latency);
    let kept =
        answer.status == Status::Http(504) && tries.len() == 3 && cut.count() == 2 && in_time;
    let found = format!(
        "{} tries, ended after {:.2?} with {}",
        tries.len(),
        answer.latency,
        text(answer.status)
    );
    stage.found(kept, &found)
}

/// Writes a routing and says how soon it was in force.
async fn in_force(stage: &mut Stage, routing: Routing) -> anyhow::Result<()> {
    match stage.edit(routing).await? {
        Some(time) => stage.found(true, &format!("the edit is in force after {time:.0?}")),
        None => stage.found(false, "the edit is not in force"),
    }
}

/// Whether a share is what the dice promise.
fn near(number: u64, of: u64, share: f64) -> bool {
    let of = of as f64;
    let deviation = (of * share * (1.0 - share)).sqrt();
    of > 0.0 && (number as f64 - of * share).abs() <= DEVIATIONS * deviation
}

fn clean(counts: &Counts) -> bool {
    counts.failed == 0 && counts.calls > 0
}

fn told(counts: &Counts) -> String {
    let mut text = format!("{} calls, {} failed", counts.calls, counts.failed);
    if let Some(error) = &counts.last_error {
        text.push_str(&format!(" ({error})"));
    }
    text
}

fn share_of_v2(counts: &Counts) -> String {
    share(counts.of(super::backends::NAMES[V2]), counts.calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_judged_by_its_dice() {
        // The standard deviation of 1,000 at 0.1 is 9.5.
        for (number, near_enough) in [(100, true), (147, true), (148, false), (52, false)] {
            assert_eq!(near(number, 1_000, 0.1), near_enough, "{number}");
        }
        assert!(!near(0, 0, 0.1), "nothing proves nothing");
    }
}
