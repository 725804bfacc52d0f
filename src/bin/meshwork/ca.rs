//! `meshwork ca`: the files of an authority that `meshwork serve --ca` signs with.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use meshwork::model::identity::TrustDomain;
use meshwork::tls::{Authority, Step};

use crate::duration;

/// Make and replace the roots of the authority of `meshwork serve --ca`, and make join tokens.
///
/// A root is replaced in three steps, `begin`, `switch` and `finish`. A running server sees each of
/// them within a second; clients learn of it when they renew their certificates, which is why a step is
/// refused until the one before is as old as certificates live.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make an authority with a new root, in a file that only its owner may read
    Create {
        /// The file; it must not exist yet
        file: PathBuf,
        /// The trust domain of its identities
        #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
        trust_domain: TrustDomain,
    },
    /// Print the roots that are to be trusted, as PEM: the file that clients begin with
    Roots {
        /// The authority's file
        file: PathBuf,
    },
    /// Step one: another root is trusted, and does not sign yet
    Begin {
        /// The authority's file
        file: PathBuf,
    },
    /// Step two: the other root signs, and the old one is still trusted
    Switch(Next),
    /// Step three: the old root is not trusted any more
    Finish(Next),
    /// Make a join token, add it to the file of tokens and print it
    Token {
        /// The file of join tokens
        file: PathBuf,
        /// For whom it is
        #[arg(value_name = "NAMESPACE/SERVICEACCOUNT", value_parser = identity)]
        identity: String,
        /// It counts more than once
        #[arg(long)]
        reusable: bool,
    },
}

/// A step that another one must have come before.
#[derive(Debug, clap::Args)]
struct Next {
    /// The authority's file
    file: PathBuf,
    /// How long certificates live: as long ago must the step before be
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration::parse)]
    lifetime: Duration,
}

fn identity(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((namespace, account))
            if !namespace.is_empty() && !account.is_empty() && !account.contains('/') =>
        {
            Ok(text.to_owned())
        }
        _ => Err("expected NAMESPACE/SERVICEACCOUNT, such as my-app/order-sa".to_owned()),
    }
}

/// Does what it is told.
///
/// # Errors
///
/// A file cannot be used, or the step is not the next one.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Create { file, trust_domain } => {
            Authority::create(&file, trust_domain, now())?;
            told(&format!(
                "{}: made; give clients what `meshwork ca roots` prints",
                file.display()
            ))
        }
        Command::Roots { file } => told(Authority::load(&file)?.bundle_pem().trim_end()),
        Command::Begin { file } => {
            Authority::load(&file)?.begin(now())?.save(&file)?;
            told("both roots are trusted; go on with `switch` when certificates were renewed")
        }
        Command::Switch(next) => {
            let authority = next.load(Step::Begun)?;
            authority.switch()?.save(&next.file)?;
            told("the new root signs; go on with `finish` when certificates were renewed")
        }
        Command::Finish(next) => {
            let authority = next.load(Step::Switched)?;
            authority.finish()?.save(&next.file)?;
            told("the old root is not trusted any more")
        }
        Command::Token {
            file,
            identity,
            reusable,
        } => told(&token(&file, &identity, reusable)?),
    }
}

impl Next {
    /// The authority, if the step that it stands at is old enough.
    fn load(&self, expected: Step) -> anyhow::Result<Authority> {
        let authority = Authority::load(&self.file)?;
        let edited = std::fs::metadata(&self.file).and_then(|found| found.modified());
        let age =
            SystemTime::now().duration_since(edited.context("the system has no times of files")?);
        let age = age.unwrap_or_default();
        if authority.step() == expected && age < self.lifetime {
            anyhow::bail!(
                "the last step is {}, and certificates of before live for {}: whoever has one would \
                 not be believed; wait for {} more, or say with --lifetime how long they live",
                whole(age),
                whole(self.lifetime),
                whole(self.lifetime - age),
            );
        }
        Ok(authority)
    }
}

fn whole(duration: Duration) -> String {
    format!("{:?}", Duration::from_secs(duration.as_secs()))
}

/// Makes a token and adds it to the file, which is made if there is none.
fn token(file: &Path, identity: &str, reusable: bool) -> anyhow::Result<String> {
    let token = meshwork::control::JoinTokens::new(file).make(identity, reusable);
    token.with_context(|| format!("no token can be added to {}", file.display()))
}

fn told(text: &str) -> anyhow::Result<ExitCode> {
    writeln!(std::io::stdout(), "{text}").context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
