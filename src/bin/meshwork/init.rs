//! `meshwork init`: a folder to start from.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::USAGE;

/// Write a commented folder of YAML to start from: a service with two versions, a canary by header and
/// weight, retries, limits and ejection.
///
/// Nothing that is there is overwritten. Run two echoes as the files say and call them:
///
///   meshwork echo --listen 127.0.0.1:8081 --name v1 &
///   meshwork echo --listen 127.0.0.1:8082 --name v2 &
///   meshwork call --config DIR --workload my-app/order-sa -n 1000 http://catalog/items
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder; it is made if it does not exist
    #[arg(value_name = "DIR", default_value = "mesh")]
    path: PathBuf,
}

/// The files, each with its name.
const FILES: [(&str, &str); 2] = [
    ("catalog.yaml", include_str!("init/catalog.yaml")),
    ("routing.yaml", include_str!("init/routing.yaml")),
];

/// Writes them.
///
/// # Errors
///
/// A file cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folder = &args.path;
    let there = FILES.iter().find(|(name, _)| folder.join(name).exists());
    if let Some((name, _)) = there {
        eprintln!(
            "meshwork init: {} is there already; name another folder, or move it away",
            folder.join(name).display()
        );
        return Ok(ExitCode::from(USAGE));
    }
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for (name, text) in FILES {
        let path = folder.join(name);
        // Also a file that somebody has just made stays as it is.
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut file = match file {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            other => other.with_context(|| format!("cannot write {}", path.display()))?,
        };
        file.write_all(text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let folder = folder.display();
    writeln!(
        std::io::stdout(),
        "wrote {folder}/catalog.yaml and {folder}/routing.yaml\nnext:  meshwork check {folder}\n       \
         meshwork explain {folder} --from my-app/order-sa --request 'GET http://catalog/items'"
    )?;
    Ok(ExitCode::SUCCESS)
}
