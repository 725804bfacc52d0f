//! The algorithm, without time, tasks or locks of its own.

use std::time::Duration;

use tokio::time::Instant;

use super::{InvalidSettings, Settings};

/// How many samples a window has at least: with fewer, one slow request would look like a trend.
pub const WINDOW_SAMPLES: u32 = 10;

/// A window can at most halve its target.
const STEEPEST: f64 = 0.5;

/// The least room for a queue, as in Gradient2.
const LEAST_QUEUE: f64 = 4.0;

/// While the long average is young it is the plain mean of so many windows.
const WARM_UP: u32 = 10;

/// What one request says about load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sample {
    /// It was answered after this time.
    Answered(Duration),
    /// It was rejected by the service, or never answered.
    Dropped,
    /// Its caller left after this time; a lower bound of its response time.
    GivenUp(Duration),
}

/// A limit that follows response times; sans-IO: `(sample, in flight, now) -> limit`.
///
/// The [module documentation](super) has the formula and the reasons.
///
/// ```
/// use std::time::Duration;
///
/// use meshwork::layer::concurrency::{Gradient, Sample, Settings};
/// use tokio::time::Instant;
///
/// let mut gradient = Gradient::new(Settings::default())?;
/// let start = Instant::now();
/// for millisecond in 0..1_000 {
///     let now = start + Duration::from_millis(millisecond);
///     gradient.sample(Sample::Answered(Duration::from_millis(10)), gradient.limit(), now);
/// }
/// assert!(gradient.limit() > 20, "steady times under full use raise the limit");
/// # Ok::<(), meshwork::layer::concurrency::InvalidSettings>(())
/// ```
#[derive(Clone, Debug)]
pub struct Gradient {
    settings: Settings,
    /// Between `min` and `max`; the fraction is what makes slow growth add up.
    limit: f64,
    long: Average,
    window: Option<Window>,
}

/// The long average of response times, in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Average {
    value: f64,
    windows: u32,
}

/// The samples since a moment.
#[derive(Clone, Copy, Debug)]
struct Window {
    started: Instant,
    answered: u32,
    dropped: u32,
    /// All response times together, in seconds.
    total: f64,
    /// The most that were in flight.
    busiest: u32,
}

impl Gradient {
    /// A limit at `initial` that has seen nothing.
    ///
    /// # Errors
    /// If a setting is out of its bounds.
    pub fn new(settings: Settings) -> Result<Self, InvalidSettings> {
        let settings = settings.check()?;
        Ok(Self {
            settings,
            limit: f64::from(settings.initial),
            long: Average::default(),
            window: None,
        })
    }

    /// The present limit.
    #[must_use]
    pub fn limit(&self) -> u32 {
        // Clamped to `u32` bounds on every change.
        self.limit as u32
    }

    /// Takes in one sample and returns the limit that holds from then on.
    ///
    /// `in_flight` counts the sampled request. Samples may come a little out of order; a `now`
    /// before the window's start only lengthens the window.
    pub fn sample(&mut self, sample: Sample, in_flight: u32, now: Instant) -> u32 {
        let answered = match sample {
            Sample::Answered(time) => Some(time),
            Sample::Dropped => None,
            Sample::GivenUp(time) if self.is_slow(time) => Some(time),
            Sample::GivenUp(_) => return self.limit(),
        };
        let window = self.window.get_or_insert(Window::new(now));
        window.add(answered, in_flight);
        if window.is_over(&self.settings, now) {
            let window = *window;
            self.window = None;
            self.adapt(&window);
        }
        self.limit()
    }

    /// Whether a time is beyond what counts as normal.
    fn is_slow(&self, time: Duration) -> bool {
        self.long.windows > 0 && time.as_secs_f64() > self.settings.tolerance * self.long.value
    }

    fn adapt(&mut self, window: &Window) {
        let measured = match window.short() {
            Some(short) => {
                let long = self.long.add(short, self.settings.long_windows);
                (self.settings.tolerance * long / short).clamp(STEEPEST, 1.0)
            }
            None => STEEPEST,
        };
        // Less than half in use: the times say nothing about what the limit would allow.
        if f64::from(window.busiest) < self.limit / 2.0 {
            return;
        }
        let dropped = window.dropped_share();
        let gradient = measured * (1.0 - dropped) + STEEPEST * dropped;
        let target = self.limit * gradient + self.queue(gradient);
        let Settings { min, max, .. } = self.settings;
        self.limit = (self.limit + self.settings.smoothing * (target - self.limit))
            .clamp(f64::from(min), f64::from(max));
    }

    /// The room for a queue: `sqrt(limit)` to grow by, less the steeper the limit falls.
    fn queue(&self, gradient: f64) -> f64 {
        let more = (self.limit.sqrt() - LEAST_QUEUE).max(0.0);
        LEAST_QUEUE + more * (gradient - STEEPEST) / (1.0 - STEEPEST)
    }
}

impl Average {
    /// Adds a window; what the gradient compares it with.
    fn add(&mut self, short: f64, windows: u32) -> f64 {
        self.windows = self.windows.saturating_add(1);
        let factor = if self.windows <= WARM_UP {
            1.0 / f64::from(self.windows)
        } else {
            2.0 / (f64::from(windows) + 1.0)
        };
        self.value += factor * (short - self.value);
        let long = self.value;
        // Learnt in a bad time that is over.
        if long > 2.0 * short {
            self.value *= 0.95;
        }
        long
    }
}

impl Window {
    fn new(started: Instant) -> Self {
        Self {
            started,
            answered: 0,
            dropped: 0,
            total: 0.0,
            busiest: 0,
        }
    }

    fn add(&mut self, answered: Option<Duration>, in_flight: u32) {
        match answered {
            Some(time) => {
                self.answered = self.answered.saturating_add(1);
                self.total += time.as_secs_f64();
            }
            None => self.dropped = self.dropped.saturating_add(1),
        }
        self.busiest = self.busiest.max(in_flight);
    }

    fn is_over(&self, settings: &Settings, now: Instant) -> bool {
        self.answered.saturating_add(self.dropped) >= WINDOW_SAMPLES
            && now.saturating_duration_since(self.started) >= settings.window
    }

    /// The mean response time in seconds, never zero; `None` if nothing was answered.
    fn short(&self) -> Option<f64> {
        (self.answered > 0).then(|| (self.total / f64::from(self.answered)).max(1e-9))
    }

    fn dropped_share(&self) -> f64 {
        let all = f64::from(self.answered) + f64::from(self.dropped);
        f64::from(self.dropped) / all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FAST: Duration = Duration::from_millis(10);
    const SLOW: Duration = Duration::from_millis(100);

    /// A service that is used up to the limit, or up to `demand` if that is less.
    struct Story {
        gradient: Gradient,
        now: Instant,
        demand: u32,
    }

    impl Story {
        fn new(settings: Settings) -> Self {
            Self {
                gradient: Gradient::new(settings).unwrap(),
                now: Instant::now(),
                demand: u32::MAX,
            }
        }

        /// Answers of one latency; by Little's law they come at `in flight / latency`. The limit
        /// after each.
        fn run(&mut self, time: Duration, latency: Duration) -> Vec<u32> {
            self.play(time, latency, Sample::Answered(latency))
        }

        fn play(&mut self, time: Duration, latency: Duration, sample: Sample) -> Vec<u32> {
            let end = self.now + time;
            let mut limits = Vec::new();
            while self.now < end {
                let in_flight = self.gradient.limit().min(self.demand);
                self.now += latency / in_flight;
                limits.push(self.gradient.sample(sample, in_flight, self.now));
            }
            limits
        }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn g20_a_latency_step_reaches_the_floor_within_3_s_and_recovers_within_10_s() {
        let mut story = Story::new(Settings::default());
        story.run(seconds(30), FAST);
        assert_eq!(story.gradient.limit(), 200);

        story.run(seconds(3), SLOW);
        assert_eq!(story.gradient.limit(), 20);
        let low = story.run(seconds(10), SLOW);
        assert!(low.iter().all(|limit| *limit == 20));

        story.run(seconds(10), FAST);
        assert!(story.gradient.limit() >= 180, "{}", story.gradient.limit());
    }

    #[test]
    fn g20_steady_times_never_lower_the_limit() {
        let mut story = Story::new(Settings::default());
        let limits = story.run(seconds(60), FAST);
        assert!(limits.is_sorted());
        assert_eq!(limits.last(), Some(&200));
    }

    #[test]
    fn the_limit_does_not_move_while_less_than_half_is_in_use() {
        let mut story = Story::new(Settings {
            initial: 100,
            ..Settings::default()
        });
        story.demand = 49;
        for latency in [FAST, SLOW, FAST] {
            let limits = story.run(seconds(5), latency);
            assert!(limits.iter().all(|limit| *limit == 100));
        }
        story.demand = 50;
        story.run(seconds(1), FAST);
        // Growth ends by itself: at twice the demand it is less than half in use again.
        assert_eq!(story.gradient.limit(), 102);
    }

    #[test]
    fn rejections_lower_the_limit_by_their_share_however_fast_they_are() {
        let mut story = Story::new(Settings::default());
        story.run(seconds(30), FAST);
        story.play(seconds(3), FAST, Sample::Dropped);
        assert_eq!(story.gradient.limit(), 20);

        // One in a hundred is noise: 0.5 % of 200 is less than the room for a queue.
        let mut story = Story::new(Settings::default());
        story.run(seconds(30), FAST);
        for _ in 0..100 {
            story.run(FAST, FAST / 2);
            let in_flight = story.gradient.limit();
            story.gradient.sample(Sample::Dropped, in_flight, story.now);
        }
        assert_eq!(story.gradient.limit(), 200);
    }

    #[test]
    fn calls_given_up_early_say_nothing_and_late_ones_that_it_is_slow() {
        let mut story = Story::new(Settings::default());
        story.run(seconds(30), FAST);
        story.play(seconds(3), FAST, Sample::GivenUp(FAST));
        assert_eq!(story.gradient.limit(), 200);
        story.play(seconds(3), SLOW, Sample::GivenUp(SLOW));
        assert_eq!(story.gradient.limit(), 20);
        // Before anything is known nothing is slow.
        let mut story = Story::new(Settings::default());
        story.play(seconds(3), SLOW, Sample::GivenUp(SLOW));
        assert_eq!(story.gradient.limit(), 20);
        assert!(story.gradient.window.is_none());
    }

    /// The definition, written down a second time without windows that are kept open.
    #[test]
    fn each_window_moves_the_limit_by_the_formula() {
        let settings = Settings {
            initial: 100,
            ..Settings::default()
        };
        let mut gradient = Gradient::new(settings).unwrap();
        let start = Instant::now();
        let (mut limit, mut long) = (100.0_f64, 0.0);
        for (window, milliseconds) in [10_u32, 10, 40, 10, 400, 1].into_iter().enumerate() {
            let short = f64::from(milliseconds) / 1_000.0;
            long += (short - long) / (window as f64 + 1.0);
            let slope = (1.5 * long / short).clamp(0.5, 1.0);
            let queue = 4.0 + (limit.sqrt() - 4.0).max(0.0) * (2.0 * slope - 1.0);
            limit += 0.2 * (limit * slope + queue - limit);
            limit = limit.clamp(20.0, 200.0);
            if long / short > 2.0 {
                long *= 0.95;
            }
            let time = Duration::from_millis(milliseconds.into());
            for sample in 0..WINDOW_SAMPLES {
                let offset = window as u32 * 1_000 + sample * 12;
                let now = start + Duration::from_millis(offset.into());
                gradient.sample(Sample::Answered(time), 200, now);
            }
            assert_eq!(gradient.limit(), limit as u32, "window {window}");
        }
    }

    fn sample() -> impl Strategy<Value = Sample> {
        let time = prop_oneof![
            (0_u64..1_000_000_000).prop_map(Duration::from_nanos),
            Just(Duration::ZERO),
            Just(Duration::MAX),
        ];
        prop_oneof![
            8 => time.clone().prop_map(Sample::Answered),
            1 => Just(Sample::Dropped),
            1 => time.prop_map(Sample::GivenUp),
        ]
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn the_limit_stays_in_bounds_and_never_grows_when_app_limited(
            min in 1_u32..50,
            room in 0_u32..500,
            smoothing in 0.01_f64..=1.0,
            tolerance in 1.0_f64..=10.0,
            demand in prop_oneof![1_u32..60, 1_u32..1_000],
            samples in prop::collection::vec((sample(), 0_u32..1_000, 0_u64..50), 0..400),
        ) {
            let settings = Settings {
                min,
                initial: min,
                max: min + room,
                smoothing,
                tolerance,
                ..Settings::default()
            };
            let mut gradient = Gradient::new(settings).unwrap();
            let mut now = Instant::now();
            let mut busiest = 0;
            for (sample, in_flight, pause) in samples {
                now += Duration::from_millis(pause);
                let in_flight = in_flight % demand;
                let before = gradient.limit();
                busiest = if gradient.window.is_none() { in_flight } else { busiest.max(in_flight) };
                let limit = gradient.sample(sample, in_flight, now);
                prop_assert!((min..=min + room).contains(&limit));
                prop_assert!(limit <= before || 2 * busiest >= before);
            }
        }
    }
}
