//! What the mesh logs, as the program's subscriber has it, and how levels are changed.
//!
//! A library has no levels of its own: it tells events, and the subscriber of the program takes those
//! that it wants. So Envoy's `/logging` is answered by asking that subscriber. Levels are changed where they
//! are kept: the program hands over how ([`SetLevels`]), mostly the handle of a
//! `tracing_subscriber::reload` layer, and is told what an operator wants of this crate's targets. Nothing else
//! of its filter is touched, and without a handle nothing can be changed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use http::{Method, StatusCode};
use tracing::{Level, enabled};

use super::{From, pairs};
use crate::error::BoxError;

/// Puts levels in force. The text has the form of `RUST_LOG`, such as `meshwork=info,meshwork::tls=trace`; it is
/// empty when what an operator wanted is taken back.
type SetLevels = Box<dyn Fn(&str) -> Result<(), BoxError> + Send + Sync>;

/// The words that a level may be, and the one that takes a wish back.
const WORDS: [&str; 7] = ["off", "error", "warn", "info", "debug", "trace", "default"];
const DEFAULT: &str = "default";
/// Envoy's parameter for all targets.
const ALL: &str = "level";

/// The least important level that the subscriber takes of a target.
macro_rules! level {
    ($target:literal) => {
        if enabled!(target: $target, Level::TRACE) {
            "trace"
        } else if enabled!(target: $target, Level::DEBUG) {
            "debug"
        } else if enabled!(target: $target, Level::INFO) {
            "info"
        } else if enabled!(target: $target, Level::WARN) {
            "warn"
        } else if enabled!(target: $target, Level::ERROR) {
            "error"
        } else {
            "off"
        }
    };
}

/// One macro for all: the target and the level of a call site are constants.
macro_rules! targets {
    ($($target:literal),* $(,)?) => {
        /// The targets of this crate.
        const TARGETS: &[&str] = &[$($target),*];

        /// A line for each target.
        fn shown() -> String {
            let lines = [$(($target, level!($target))),*];
            lines.map(|(target, level)| format!("{target}: {level}\n")).concat()
        }
    };
}

targets![
    "meshwork",
    "meshwork::audit",
    "meshwork::control",
    "meshwork::dns",
    "meshwork::inbound",
    "meshwork::mesh",
    "meshwork::outbound",
    "meshwork::snapshot",
    "meshwork::source",
    "meshwork::telemetry",
    "meshwork::tls",
    "meshwork::transport",
];

/// What operators want of levels.
pub(crate) struct Levels {
    set: SetLevels,
    /// What was asked for and not taken back, by target. Locked while levels are put in force, so that two
    /// operators do not undo each other.
    wanted: Mutex<BTreeMap<&'static str, &'static str>>,
}

impl Levels {
    pub(crate) fn new(set: SetLevels) -> Self {
        Self {
            set,
            wanted: Mutex::default(),
        }
    }

    /// The answer at `/logging`. Levels are read by GET and changed by POST, all of a query or nothing.
    pub(crate) fn answer(
        levels: Option<&Self>,
        method: &Method,
        query: &str,
        from: From,
    ) -> (StatusCode, String) {
        if *method != Method::POST {
            let hint = "levels are read by GET without a query, and changed by POST\n";
            return match query.is_empty() {
                true => (StatusCode::OK, shown()),
                false => (StatusCode::BAD_REQUEST, hint.to_owned()),
            };
        }
        if !from.loopback {
            let why = "levels are changed at a loopback address alone\n";
            return (StatusCode::FORBIDDEN, why.to_owned());
        }
        if from.page {
            let why = "a page in a browser changes no levels\n";
            return (StatusCode::FORBIDDEN, why.to_owned());
        }
        let Some(levels) = levels else {
            let why = "this program has not said how levels are changed (Builder::log_levels)\n";
            return (StatusCode::NOT_IMPLEMENTED, why.to_owned());
        };
        match levels.change(query) {
            Ok(()) => (StatusCode::OK, shown()),
            Err(Refused { status, why }) => (status, format!("{why}\n")),
        }
    }

    fn change(&self, query: &str) -> Result<(), Refused> {
        let changes = asked(query)?;
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = wanted.clone();
        for (targets, level) in changes {
            for target in targets {
                match level {
                    DEFAULT => next.remove(target),
                    level => next.insert(target, level),
                };
            }
        }
        let text: Vec<String> = next
            .iter()
            .map(|(target, level)| format!("{target}={level}"))
            .collect();
        (self.set)(&text.join(",")).map_err(|error| Refused {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            why: format!("the program could not change its levels: {error}"),
        })?;
        *wanted = next;
        tracing::info!(levels = text.join(","), "levels were changed");
        Ok(())
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Levels")
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}

/// Why nothing was changed.
struct Refused {
    status: StatusCode,
    why: String,
}

type Change = (&'static [&'static str], &'static str);

/// What a query asks for; the first slip of it is told, with what is allowed.
fn asked(query: &str) -> Result<Vec<Change>, Refused> {
    let slip = |why: String| Refused {
        status: StatusCode::BAD_REQUEST,
        why,
    };
    let mut changes = Vec::new();
    for (name, value) in pairs(query) {
        let level = WORDS.iter().find(|word| value.eq_ignore_ascii_case(word));
        let level = *level.ok_or_else(|| {
            slip(format!(
                "{name}={value:?} is no level: expected one of {}",
                WORDS.join(", ")
            ))
        })?;
        let targets = match TARGETS.iter().position(|target| *target == name) {
            _ if name == ALL => TARGETS,
            Some(index) => &TARGETS[index..=index],
            None => {
                return Err(slip(format!(
                    "{name:?} is no target: expected level (for all), or one of {}",
                    TARGETS.join(", ")
                )));
            }
        };
        changes.push((targets, level));
    }
    match changes.is_empty() {
        true => Err(slip(
            "say which: ?level=debug or ?meshwork::tls=trace".into(),
        )),
        false => Ok(changes),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const HERE: From = From {
        loopback: true,
        page: false,
    };

    /// Levels, and what the program was told, call by call.
    fn levels() -> (Levels, Arc<Mutex<Vec<String>>>) {
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = told.clone();
        let set = move |text: &str| {
            if text.contains("meshwork::dns=off") {
                return Err("no such thing".into());
            }
            log.lock().unwrap().push(text.to_owned());
            Ok(())
        };
        (Levels::new(Box::new(set)), told)
    }

    fn post(levels: &Levels, query: &str) -> (StatusCode, String) {
        Levels::answer(Some(levels), &Method::POST, query, HERE)
    }

    #[test]
    fn wishes_add_up_and_are_taken_back() {
        let (levels, told) = levels();
        for query in [
            "meshwork::tls=TRACE",
            "meshwork::dns=info&meshwork::tls=debug",
            "meshwork::tls=default",
            "level=default",
        ] {
            assert_eq!(post(&levels, query).0, StatusCode::OK, "{query}");
        }
        assert_eq!(
            *told.lock().unwrap(),
            [
                "meshwork::tls=trace",
                "meshwork::dns=info,meshwork::tls=debug",
                "meshwork::dns=info",
                ""
            ]
        );
        post(&levels, "level=warn");
        let told = told.lock().unwrap();
        let all = told.last().unwrap();
        assert_eq!(all.split(',').count(), TARGETS.len(), "{all}");
    }

    #[test]
    fn a_query_with_a_slip_changes_nothing() {
        let (levels, told) = levels();
        for (query, status, part) in [
            ("", StatusCode::BAD_REQUEST, "?level=debug"),
            ("level=loud", StatusCode::BAD_REQUEST, "off, error, warn"),
            ("meshwork::tls", StatusCode::BAD_REQUEST, "is no level"),
            (
                "meshwork::tls=debug&hyper=debug",
                StatusCode::BAD_REQUEST,
                "is no target",
            ),
            (
                "meshwork::dns=off",
                StatusCode::INTERNAL_SERVER_ERROR,
                "no such thing",
            ),
        ] {
            let (found, text) = post(&levels, query);
            assert_eq!(found, status, "{query}");
            assert!(text.contains(part), "{query}: {text}");
        }
        assert!(told.lock().unwrap().is_empty());
        assert!(levels.wanted.lock().unwrap().is_empty());
    }

    #[test]
    fn neither_strangers_nor_pages_change_levels() {
        let (levels, told) = levels();
        for from in [
            From {
                loopback: false,
                ..HERE
            },
            From { page: true, ..HERE },
        ] {
            let (status, _) = Levels::answer(Some(&levels), &Method::POST, "level=trace", from);
            assert_eq!(status, StatusCode::FORBIDDEN, "{from:?}");
            let (status, text) = Levels::answer(Some(&levels), &Method::GET, "", from);
            assert_eq!(status, StatusCode::OK);
            assert!(text.starts_with("meshwork: "), "{text}");
        }
        assert!(told.lock().unwrap().is_empty());
        let (status, text) = Levels::answer(None, &Method::POST, "level=trace", HERE);
        assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
        assert!(text.contains("Builder::log_levels"), "{text}");
    }
}
