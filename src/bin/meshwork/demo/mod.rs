//! `meshwork demo`: what a mesh does, on real sockets, in a minute.
//!
//! Nothing here is played: the backends are servers that really fail and hang, the files are
//! really edited, and every sentence at the end of a scene is computed from the traffic. A scene
//! that does not show what it promises says so, and the exit code is 1; so the demo is a test too.

mod backends;
mod files;
mod pace;
mod scenes;
mod screen;
mod stage;
mod traffic;

use std::process::ExitCode;

use crate::signal;
use stage::Stage;

/// Show live what a mesh does: backends in this process, the files of examples/article, and steady
/// traffic between them.
///
/// The 90/10 split, the header that goes to version 2, retries, a backend that fails, is ejected and
/// comes back, edits that take effect while it runs, and a timeout. It needs no network and no
/// other program; it takes about 80 s because the article's outlier detection looks every 30 s.
///
/// Exit code: 0 if everything was as promised, 1 if not.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Args {
    /// Shorten the intervals in the files, and the scenes: about 15 s in all
    #[arg(long)]
    fast: bool,
}

/// Runs all scenes.
///
/// # Errors
///
/// No free port, no temporary folder, or stdout cannot be written.
#[tokio::main]
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let end = signal::end()?;
    let play = async {
        let mut stage = Stage::set(args.fast).await?;
        scenes::play(&mut stage).await?;
        stage.end().await
    };
    tokio::select! {
        played = play => played,
        // Dropping the play removes its folder.
        () = end => Ok(ExitCode::from(130)),
    }
}
