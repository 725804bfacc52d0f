//! What the scenes play on: backends, files, a mesh, traffic, a screen; and what they promised.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use meshwork::{Client, Mesh, Stats, Workload};
use tokio::time::Instant;

use super::backends::Backends;
use super::files::{Folder, Routing};
use super::pace::Pace;
use super::screen::{Screen, View};
use super::traffic::{Calls, Counts, Traffic};
use crate::call::Template;

/// How often the table is drawn.
const DRAW: Duration = Duration::from_millis(200);
/// How long an edit may take until it is in force; the library promises a second.
const EDIT: Duration = Duration::from_secs(5);
/// How long the mesh may take to end.
const END: Duration = Duration::from_secs(2);

/// Everything at once.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) backends: Backends,
    pub(super) client: Client,
    pub(super) folder: Folder,
    pub(super) mesh: Mesh,
    pub(super) pace: Pace,
    pub(super) traffic: Traffic,
    screen: Screen,
    scenes: u32,
    began: Instant,
    kept: u32,
    broken: Vec<String>,
}

impl Stage {
    pub(super) async fn set(fast: bool) -> anyhow::Result<Self> {
        let pace = Pace::new(fast);
        let backends = Backends::start().await?;
        let folder = Folder::create(backends.ports(), pace).context(
            "cannot write to the temporary folder; set TMPDIR to one that can be written",
        )?;
        let mesh = Mesh::builder()
            .yaml(folder.path())
            .workload(Workload::new("my-app", "order-sa").label("app", "order"))
            .start()
            .await?;
        let client = mesh.client();
        let plain = Template::get("http://catalog/items").map_err(anyhow::Error::msg)?;
        Ok(Self {
            traffic: Traffic::new(&client, &plain, pace.rate()),
            backends,
            client,
            folder,
            mesh,
            pace,
            screen: Screen::new(),
            scenes: 0,
            began: Instant::now(),
            kept: 0,
            broken: Vec::new(),
        })
    }

    /// Opens a scene: its title and what it is about in one sentence.
    pub(super) fn open(&mut self, title: &str, sentence: &str) -> anyhow::Result<()> {
        self.scenes += 1;
        let number = self.scenes;
        self.screen
            .say(&format!("\n{number}. {title}\n   {sentence}"))?;
        Ok(())
    }

    /// Closes a promise: whether it was kept, and what was found.
    pub(super) fn found(&mut self, kept: bool, found: &str) -> anyhow::Result<()> {
        let mark = if kept { "ok " } else { "NOT AS PROMISED " };
        if kept {
            self.kept += 1;
        } else {
            self.broken.push(format!("scene {}: {found}", self.scenes));
        }
        self.screen.say(&format!("   {mark}{found}"))?;
        Ok(())
    }

    /// Writes a line that is no promise.
    pub(super) fn say(&mut self, text: &str) -> anyhow::Result<()> {
        self.screen.say(&format!("   {text}"))?;
        Ok(())
    }

    /// Shows traffic for a time, and on until `done` or the time is up for that too.
    pub(super) async fn watch(
        &mut self,
        at_least: Duration,
        at_most: Duration,
        mut done: impl FnMut(&Counts, &Stats) -> bool,
    ) -> anyhow::Result<bool> {
        let began = Instant::now();
        loop {
            let (scene, stats) = (self.traffic.scene(), self.mesh.stats());
            self.screen.show(View {
                backends: &self.backends,
                stats: &stats,
                scene: &scene,
                all: &self.traffic.all(),
            })?;
            let elapsed = began.elapsed();
            let done = done(&scene, &stats);
            if (done && elapsed >= at_least) || elapsed >= at_most {
                return Ok(done);
            }
            tokio::time::sleep(DRAW.min(at_most - elapsed)).await;
        }
    }

    /// Begins traffic and shows it for a time, and on until so many calls have been made.
    pub(super) async fn act(
        &mut self,
        calls: Calls,
        seconds: u64,
        enough: u64,
    ) -> anyhow::Result<Counts> {
        self.traffic.begin(calls);
        let at_least = self.pace.scene(seconds);
        let at_most = at_least + Duration::from_secs(20);
        self.watch(at_least, at_most, |scene, _| scene.calls >= enough)
            .await?;
        Ok(self.traffic.scene())
    }

    /// Writes a routing and waits until it is in force; how long that took, `None` if it never was.
    pub(super) async fn edit(&mut self, routing: Routing) -> anyhow::Result<Option<Duration>> {
        let before = self.mesh.generation();
        let began = Instant::now();
        self.folder.write(routing)?;
        let changed = tokio::time::timeout(EDIT, self.mesh.changed(before)).await;
        Ok(changed.is_ok().then(|| began.elapsed()))
    }

    /// Ejections and readmissions of all clusters up to now.
    pub(super) fn ejections(&self) -> (u64, u64) {
        sums(&self.mesh.stats())
    }

    /// The summary, and the exit code.
    pub(super) async fn end(mut self) -> anyhow::Result<ExitCode> {
        let all = self.traffic.all();
        let (ejections, readmissions) = self.ejections();
        let edits = self.mesh.generation() - 1;
        let time = self.began.elapsed().as_secs_f64();
        self.screen.say(&format!(
            "\n{} calls in {time:.0} s through {} scenes: failed {}, retries {}, ejections \
             {ejections}, readmissions {readmissions}, edits in force {edits}.",
            all.calls, self.scenes, all.failed, all.retries,
        ))?;
        let left = self.mesh.shutdown(END).await;
        if left > 0 {
            self.broken
                .push(format!("{left} calls did not end with the mesh"));
        }
        if self.broken.is_empty() {
            self.screen
                .say(&format!("All {} promises were kept.", self.kept))?;
            return Ok(ExitCode::SUCCESS);
        }
        for broken in &self.broken {
            eprintln!("meshwork demo: not as promised: {broken}");
        }
        Ok(ExitCode::FAILURE)
    }
}

/// Ejections and readmissions of all clusters.
pub(super) fn sums(stats: &Stats) -> (u64, u64) {
    let clusters = stats.clusters.iter();
    clusters.fold((0, 0), |(ejections, readmissions), cluster| {
        (
            ejections + cluster.ejections,
            readmissions + cluster.readmissions,
        )
    })
}
