//! The filters of a mesh by the messages that configure them, and those that run.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::{Response, StatusCode, request, response};

use super::{Answer, At, Filter};
use crate::model::custom::CustomFilter;

/// All filters that a program has added.
#[derive(Clone, Default)]
pub(crate) struct Filters {
    by_message: Arc<BTreeMap<Box<str>, Arc<dyn Kind>>>,
}

/// A filter that runs with one configuration.
pub(crate) trait Running: fmt::Debug + Send + Sync {
    fn request(&self, head: &mut request::Parts) -> Result<(), Box<Answer>>;
    fn response(&self, head: &mut response::Parts);
}

/// A filter, whatever its types are.
#[cfg_attr(
    not(feature = "xds"),
    allow(dead_code, reason = "nobody configures filters")
)]
trait Kind: Send + Sync {
    fn check(&self, message: &str, bytes: &[u8]) -> Result<(), String>;
    fn run(&self, model: &CustomFilter) -> Result<Arc<dyn Running>, String>;
}

struct Of<F: Filter> {
    filter: Arc<F>,
    // Locked when a configuration is linked, never on the way of a request.
    live: Mutex<Vec<(CustomFilter, Weak<Run<F>>)>>,
}

struct Run<F: Filter> {
    filter: Arc<F>,
    name: Arc<str>,
    config: F::Config,
    state: Arc<F::State>,
}

impl Filters {
    /// Adds one; of two for the same message the later one counts.
    pub(crate) fn add<F: Filter>(&mut self, filter: F) {
        let filter = Arc::new(filter);
        let kind: Arc<dyn Kind> = Arc::new(Of {
            filter: filter.clone(),
            live: Mutex::default(),
        });
        let all = Arc::make_mut(&mut self.by_message);
        for message in filter.messages() {
            all.insert((*message).into(), kind.clone());
        }
    }

    /// Whether a configuration is good; `None`: nobody is configured by this message.
    #[cfg(feature = "xds")]
    pub(crate) fn check(&self, message: &str, bytes: &[u8]) -> Option<Result<(), String>> {
        Some(self.by_message.get(message)?.check(message, bytes))
    }

    /// Those that run for these configurations: the same as before where they are the same.
    pub(crate) fn run(&self, models: &[CustomFilter]) -> Arc<[Arc<dyn Running>]> {
        let run = |model: &CustomFilter| {
            let kind = self.by_message.get(&*model.message);
            let running = kind.map(|kind| kind.run(model));
            match running {
                Some(Ok(running)) => running,
                // It was checked when it arrived. A filter may be there to refuse: without it nothing
                // passes.
                Some(Err(_)) | None => {
                    tracing::error!(filter = &*model.name, "a filter cannot run: requests fail");
                    Arc::new(Broken)
                }
            }
        };
        models.iter().map(run).collect()
    }
}

impl<F: Filter> Kind for Of<F> {
    fn check(&self, message: &str, bytes: &[u8]) -> Result<(), String> {
        self.filter.read(message, bytes).map(drop)
    }

    fn run(&self, model: &CustomFilter) -> Result<Arc<dyn Running>, String> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|(_, running)| running.strong_count() > 0);
        let running = |(known, running): &(CustomFilter, Weak<Run<F>>)| {
            Some((known.clone(), running.upgrade()?))
        };
        let alike = live.iter().filter(|(known, _)| known.name == model.name);
        let alike: Vec<(CustomFilter, Arc<Run<F>>)> = alike.filter_map(running).collect();
        if let Some((_, same)) = alike.iter().find(|(known, _)| known == model) {
            return Ok(same.clone());
        }
        let config = self.filter.read(&model.message, &model.config)?;
        let before = alike.last().map(|(_, run)| run.state.clone());
        let run = Arc::new(Run {
            filter: self.filter.clone(),
            name: model.name.clone(),
            state: self.filter.start(&config, before),
            config,
        });
        live.push((model.clone(), Arc::downgrade(&run)));
        Ok(run)
    }
}

impl<F: Filter> Run<F> {
    fn at(&self) -> At<'_, F> {
        At {
            name: &self.name,
            config: &self.config,
            state: &self.state,
        }
    }
}

impl<F: Filter> Running for Run<F> {
    fn request(&self, head: &mut request::Parts) -> Result<(), Box<Answer>> {
        self.filter.request(self.at(), head)
    }

    fn response(&self, head: &mut response::Parts) {
        self.filter.response(self.at(), head);
    }
}

/// Stands where a filter should run and cannot.
#[derive(Debug)]
struct Broken;

impl Running for Broken {
    fn request(&self, _: &mut request::Parts) -> Result<(), Box<Answer>> {
        let mut answer = Response::new(bytes::Bytes::new());
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        Err(Box::new(answer))
    }

    fn response(&self, _: &mut response::Parts) {}
}

impl<F: Filter> fmt::Debug for Run<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_message.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use http::{HeaderValue, Request};

    use super::*;

    /// Counts, and says the count and its configuration; 9 answers itself.
    struct Count;

    impl Filter for Count {
        type Config = u8;
        type State = AtomicU64;

        fn messages(&self) -> &[&str] {
            &["test.Count"]
        }

        fn read(&self, _: &str, bytes: &[u8]) -> Result<u8, String> {
            let [one] = bytes else {
                return Err(format!("{} bytes; 1 is allowed", bytes.len()));
            };
            Ok(*one)
        }

        fn start(&self, _: &u8, before: Option<Arc<AtomicU64>>) -> Arc<AtomicU64> {
            before.unwrap_or_default()
        }

        fn request(&self, at: At<'_, Self>, head: &mut request::Parts) -> Result<(), Box<Answer>> {
            if *at.config == 9 {
                return Err(Box::default());
            }
            let count = at.state.fetch_add(1, Relaxed) + 1;
            let text = format!("{} {} {count}", at.name, at.config);
            head.headers.append("x-count", text.parse().unwrap());
            Ok(())
        }

        fn response(&self, at: At<'_, Self>, head: &mut response::Parts) {
            let value = HeaderValue::from(u16::from(*at.config));
            head.headers.append("x-seen", value);
        }
    }

    fn filters() -> Filters {
        let mut filters = Filters::default();
        filters.add(Count);
        filters
    }

    fn model(name: &str, config: &[u8]) -> CustomFilter {
        CustomFilter {
            name: name.into(),
            message: "test.Count".into(),
            config: bytes::Bytes::copy_from_slice(config),
        }
    }

    fn counts(running: &[Arc<dyn Running>]) -> Vec<String> {
        let (mut head, ()) = Request::new(()).into_parts();
        super::super::request(running, &mut head).unwrap();
        let all = head.headers.get_all("x-count").iter();
        all.map(|value| value.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn state_survives_edits_as_long_as_the_name_is_in_force() {
        let filters = filters();
        let first = filters.run(&[model("a", &[1])]);
        assert_eq!(counts(&first), ["a 1 1"]);
        // The same again, on another route: the same state.
        let again = filters.run(&[model("a", &[1]), model("b", &[1])]);
        assert_eq!(counts(&again), ["a 1 2", "b 1 1"]);
        // Another configuration of the same name takes the state over.
        let next = filters.run(&[model("a", &[2])]);
        assert_eq!(counts(&next), ["a 2 3"]);
        drop((first, again, next));
        assert_eq!(counts(&filters.run(&[model("a", &[2])])), ["a 2 1"]);
    }

    #[test]
    fn an_answer_is_seen_by_those_before_and_what_cannot_run_lets_nothing_pass() {
        let filters = filters();
        let running = filters.run(&[model("a", &[1]), model("b", &[2]), model("c", &[9])]);
        let (mut head, ()) = Request::new(()).into_parts();
        let answer = super::super::request(&running, &mut head).unwrap_err();
        let seen: Vec<&[u8]> = answer
            .headers()
            .get_all("x-seen")
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        assert_eq!(seen, [b"2", b"1"]);
        let unknown = CustomFilter {
            message: "test.Unknown".into(),
            ..model("d", &[1])
        };
        for broken in [unknown, model("e", &[])] {
            let running = filters.run(&[broken]);
            let answer = super::super::request(&running, &mut head).unwrap_err();
            assert_eq!(answer.status(), 500);
        }
    }
}
