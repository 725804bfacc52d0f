//! What the command line may say.

/// What to do.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) task: Task,
    /// Parts of names; a rung is wanted if its name contains one of them, or if there are none.
    pub(crate) wanted: Vec<String>,
    /// Whether to leave out the instruction counts, which need valgrind and most of the time.
    pub(crate) no_instructions: bool,
    /// Whether the tables are put into docs/PERFORMANCE.md.
    pub(crate) publish: bool,
}

#[derive(Debug, Default)]
pub(crate) enum Task {
    /// Write the gates from what is measured.
    Bless,
    /// Build feature sets from nothing and print what that costs.
    Build,
    /// Compare with the gates; the exit status tells.
    Gate,
    /// Print the usage.
    Help,
    /// Make this many calls on one rung and nothing else: what valgrind and profilers look at.
    Laps(String, u32),
    /// Print the names of the rungs.
    List,
    /// Measure what grows, and print the tables.
    Scale,
    /// Measure and print the table.
    #[default]
    Show,
    /// Print where the allocations of one call are made.
    Trace,
}

pub(crate) const USAGE: &str = "\
cargo bench --all-features --bench ladder -- [OPTIONS] [PART OF A RUNG'S NAME]...

  --gate              compare allocations and instructions with benches/gates.txt, exit 1 if above
  --bless             write benches/gates.txt
  --publish           write the tables into docs/PERFORMANCE.md; with --scale and --build, theirs
  --scale             what grows with the configuration, with connections that come at once, with edits
  --build             build feature sets from nothing: time, crates, bytes of a program
  --trace             print where each allocation of one call is made
  --laps RUNG CALLS   make calls on one rung and nothing else, for profilers
  --list              print the names of the rungs
  --no-instructions   do not count instructions (done with valgrind, if it is installed)";

impl Arguments {
    /// Reads the arguments after the program's name; the error is a line for the user.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // Cargo says so to every benchmark.
                "--bench" => {}
                "--bless" => parsed.task = Task::Bless,
                "--build" => parsed.task = Task::Build,
                "--gate" => parsed.task = Task::Gate,
                "--help" | "-h" => parsed.task = Task::Help,
                "--laps" => {
                    let rung = arguments.next();
                    let calls = arguments.next().and_then(|count| count.parse().ok());
                    let (Some(rung), Some(calls)) = (rung, calls) else {
                        return Err("--laps needs a rung and a number of calls".into());
                    };
                    parsed.task = Task::Laps(rung, calls);
                }
                "--list" => parsed.task = Task::List,
                "--no-instructions" => parsed.no_instructions = true,
                "--publish" => parsed.publish = true,
                "--scale" => parsed.task = Task::Scale,
                "--trace" => parsed.task = Task::Trace,
                option if option.starts_with('-') => {
                    return Err(format!("unknown option {option}\n\n{USAGE}"));
                }
                _ => parsed.wanted.push(argument),
            }
        }
        Ok(parsed)
    }

    pub(crate) fn wants(&self, rung: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|part| rung.contains(part.as_str()))
    }
}
