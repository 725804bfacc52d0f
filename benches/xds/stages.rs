//! How long the stages take on the way of a configuration into force, by the library's own spans.
//!
//! `decode` is from bytes to values of the model, `link` from names to pointers and running machinery, and
//! `swap` the store that the next request sees; of endpoints alone it is their exchange in their clusters.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Subscriber;
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

const NAMES: [&str; 3] = ["decode", "link", "swap"];

/// The times since anybody looked, in the order decode, link, swap.
#[derive(Debug, Default)]
pub(crate) struct Stages(Mutex<[Duration; 3]>);

impl Stages {
    /// Those of this process, from this moment on.
    pub(crate) fn watched() -> &'static Self {
        let stages: &'static Self = Box::leak(Box::default());
        let subscriber = tracing_subscriber::registry().with(Watch(stages));
        tracing::subscriber::set_global_default(subscriber).expect("nobody has set one");
        stages
    }

    /// What has been spent in each; begins anew.
    pub(crate) fn taken(&self) -> [Duration; 3] {
        std::mem::take(&mut *self.0.lock().expect("nobody panics while it is held"))
    }
}

struct Watch(&'static Stages);

/// Which stage a span is of, and since when it is entered.
struct Entered(usize, Option<Instant>);

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Watch {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let name = attributes.metadata().name();
        let ours = attributes.metadata().target().starts_with("meshwork");
        let stage = NAMES.iter().position(|stage| ours && *stage == name);
        if let (Some(stage), Some(span)) = (stage, context.span(id)) {
            span.extensions_mut().insert(Entered(stage, None));
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(entered) = span.extensions_mut().get_mut::<Entered>()
        {
            entered.1 = Some(Instant::now());
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(Entered(stage, since)) = span.extensions_mut().get_mut::<Entered>()
            && let Some(since) = since.take()
        {
            let mut all = self.0.0.lock().expect("nobody panics while it is held");
            all[*stage] += since.elapsed();
        }
    }
}
