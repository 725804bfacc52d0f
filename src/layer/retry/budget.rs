//! How many retries are allowed, in proportion to requests.
//!
//! A limit per request ("at most 3 tries") multiplies load by three exactly when the callee can
//! bear it least, and by 3^n through n layers. A budget bounds the sum: each first try deposits a
//! fraction of a token, each retry withdraws a whole one, so that a total outage costs at most
//! `1 + share` of the normal load.
//!
//! Tokens are deposited into slots of time and expire with their slot, and each retry takes the
//! oldest tokens that are left. So each retry is paid for by requests at most `ttl` old, and over
//! any window of length `W`
//!
//! ```text
//! retries(W) <= share * requests(W + ttl) + floor * (W + ttl)
//! ```
//!
//! Finagle's bucket keeps the same sums but lets withdrawals expire too: after a burst it denies
//! all retries until the burst is forgotten, and then allows the next burst. tower's rounds the
//! deposit to a fraction with a whole denominator (0.35 becomes a third) and after ten quiet
//! seconds releases everything at once. Here deposits are exact thousandths, and what may be
//! withdrawn at once is capped by `burst`.
//!
//! A deposit is on the path of each request: one read of the clock and one atomic addition.
//! Withdrawals take a short lock; they only happen when something has failed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Percent;

/// A power of two, so that slot numbers may wrap around.
const SLOTS: u32 = 16;

/// What a retry costs; deposits are parts of it.
const TOKEN: u32 = 1_000;

/// Billionths of a token in a thousandth of one.
const PART: u128 = 1_000_000;

/// What a [`Budget`] allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Allowance {
    /// Retries as a share of first tries. Default 20 %.
    pub share: Percent,
    /// Retries per second that are allowed whatever the number of requests, so that a client with
    /// few of them can retry at all. Default 3.
    pub floor: u32,
    /// How long a request pays for later retries; at least one second. Default 10 s.
    pub ttl: Duration,
    /// The most retries that may be made at once. Default 500.
    pub burst: u32,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            share: Percent::new(20).expect("20 is at most 100"),
            floor: 3,
            ttl: Duration::from_secs(10),
            burst: 500,
        }
    }
}

/// A token bucket that pays for retries; see the [module](self) for its rule.
///
/// Time is tokio's, so that tests can pause it.
///
/// ```
/// use meshwork::layer::retry::{Allowance, Budget};
///
/// let budget = Budget::new(Allowance { floor: 0, ..Allowance::default() });
/// assert!(!budget.withdraw());
/// for _ in 0..5 {
///     budget.deposit();
/// }
/// assert_eq!(budget.remaining(), 1);
/// assert!(budget.withdraw() && !budget.withdraw());
/// ```
#[derive(Debug)]
pub struct Budget {
    /// Thousandths of a token for each first try.
    deposit: u32,
    floor: u64,
    burst: u64,
    /// In nanoseconds.
    ttl: u64,
    start: Instant,
    /// The slot's number in the upper half, thousandths of tokens in the lower.
    slots: [AtomicU64; SLOTS as usize],
    /// How much of what the floor has earned since `ttl` before the start is spent or forfeit, in
    /// billionths of tokens, so that no division rounds. Locked for all of a withdrawal, so that
    /// two cannot spend the same tokens; a few dozen instructions.
    spent: Mutex<u128>,
}

impl Budget {
    /// A budget that starts with its floor and nothing deposited.
    #[must_use]
    pub fn new(allowance: Allowance) -> Self {
        // At least a second keeps slot numbers apart for years, at most a century keeps all sums
        // of nanoseconds far from overflow.
        let longest = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        let ttl = allowance.ttl.clamp(Duration::from_secs(1), longest);
        Self {
            deposit: allowance.share.value() * (TOKEN / 100),
            floor: u64::from(allowance.floor),
            burst: u64::from(allowance.burst) * u64::from(TOKEN),
            ttl: ttl.as_nanos() as u64,
            start: Instant::now(),
            slots: [const { AtomicU64::new(0) }; SLOTS as usize],
            spent: Mutex::new(0),
        }
    }

    /// Counts a first try.
    pub fn deposit(&self) {
        self.deposit_at(Instant::now());
    }

    /// Takes a token for a retry; `false` if there is none and the retry must not be made.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        self.withdraw_at(Instant::now())
    }

    /// How many retries could be made at this moment.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        let now = self.nanos(Instant::now());
        let spent = *self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = self.deposited(self.slot_number(now)) + self.floor_level(now, spent);
        (sum.min(self.burst) / u64::from(TOKEN)) as u32
    }

    pub(crate) fn deposit_at(&self, now: Instant) {
        let number = self.slot_number(self.nanos(now));
        let slot = &self.slots[(number % SLOTS) as usize];
        let mut found = slot.load(Ordering::Relaxed);
        loop {
            let Slot(owner, tokens) = unpack(found);
            if owner == number && tokens < u32::MAX / 2 {
                // Should the slot pass to its next owner right here, that one gets the deposit:
                // it was late, not lost.
                slot.fetch_add(u64::from(self.deposit), Ordering::Relaxed);
                return;
            }
            // A full slot holds millions of retries. A slot that belongs to a later time already
            // means that this thread was asleep for longer than a token lives.
            if owner == number || number.wrapping_sub(owner) > u32::MAX / 2 {
                return;
            }
            let next = pack(number, self.deposit);
            match slot.compare_exchange_weak(found, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => found = other,
            }
        }
    }

    pub(crate) fn withdraw_at(&self, now: Instant) -> bool {
        let now = self.nanos(now);
        let number = self.slot_number(now);
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let floor = self.floor_level(now, *spent);
        let deposited = self.deposited(number);
        // What is beyond the burst is forfeit; what is left is the burst then.
        self.take(number, (deposited + floor).saturating_sub(self.burst));
        let price = u64::from(TOKEN);
        if deposited + floor < price || self.burst < price {
            return false;
        }
        let missing = price - self.take(number, price);
        if missing > floor {
            // A slot expired between counting and taking; what was taken from others is forfeit,
            // which errs on the safe side.
            return false;
        }
        *spent = (*spent).max(self.forfeit(now)) + u128::from(missing) * PART;
        true
    }

    fn nanos(&self, now: Instant) -> u64 {
        // Five centuries fit.
        now.saturating_duration_since(self.start).as_nanos() as u64
    }

    /// Numbers wrap around; those that are compared lie close together.
    fn slot_number(&self, now: u64) -> u32 {
        (now / (self.ttl / u64::from(SLOTS))) as u32
    }

    /// The slots whose tokens are alive, oldest first.
    fn alive(&self, number: u32) -> impl Iterator<Item = (u32, &AtomicU64)> {
        (0..SLOTS).rev().map(move |age| {
            let number = number.wrapping_sub(age);
            (number, &self.slots[(number % SLOTS) as usize])
        })
    }

    fn deposited(&self, number: u32) -> u64 {
        self.alive(number)
            .map(|(number, slot)| unpack(slot.load(Ordering::Relaxed)).of(number))
            .map(u64::from)
            .sum()
    }

    /// Takes up to `wanted` thousandths, the oldest first, and tells how many there were.
    fn take(&self, number: u32, wanted: u64) -> u64 {
        let mut left = wanted;
        for (number, slot) in self.alive(number) {
            if left == 0 {
                break;
            }
            let mut taken = 0;
            let taking = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |found| {
                let tokens = unpack(found).of(number);
                taken = u64::from(tokens).min(left);
                (taken > 0).then(|| found - taken)
            });
            if taking.is_ok() {
                left -= taken;
            }
        }
        wanted - left
    }

    /// What the floor has earned, in billionths of tokens.
    fn earned(&self, now: u64) -> u128 {
        (u128::from(now) + u128::from(self.ttl)) * u128::from(self.floor)
    }

    /// What of it was earned too long ago, or beyond the burst.
    fn forfeit(&self, now: u64) -> u128 {
        let most = u128::from(self.ttl) * u128::from(self.floor);
        let most = most.min(u128::from(self.burst) * PART);
        self.earned(now).saturating_sub(most)
    }

    /// What the floor offers, in thousandths of tokens.
    fn floor_level(&self, now: u64, spent: u128) -> u64 {
        let unspent = self
            .earned(now)
            .saturating_sub(spent.max(self.forfeit(now)));
        // At most the burst, which fits.
        (unspent / PART) as u64
    }
}

/// A slot's number and its tokens.
struct Slot(u32, u32);

impl Slot {
    /// The tokens, if the slot is the one with this number.
    fn of(&self, number: u32) -> u32 {
        if self.0 == number { self.1 } else { 0 }
    }
}

fn unpack(slot: u64) -> Slot {
    Slot((slot >> 32) as u32, slot as u32)
}

fn pack(number: u32, tokens: u32) -> u64 {
    u64::from(number) << 32 | u64::from(tokens)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    fn allowance(share: u32, floor: u32, burst: u32) -> Allowance {
        Allowance {
            share: Percent::new(share).unwrap(),
            floor,
            burst,
            ..Allowance::default()
        }
    }

    /// The retries of a client of which every try fails, with up to three retries a request.
    fn outage(budget: &Budget, from: Duration, seconds: u32, per_second: u32) -> u32 {
        let retry = |now| (0..3).take_while(|_| budget.withdraw_at(now)).count() as u32;
        (0..seconds * per_second)
            .map(|n| {
                let now = budget.start + from + Duration::from_secs(1) * n / per_second;
                budget.deposit_at(now);
                retry(now)
            })
            .sum()
    }

    #[test]
    fn g1_budget_holds_its_ratio() {
        for share in [5, 10, 15, 20, 30, 35, 50, 60, 90] {
            for floor in [0, 3] {
                let budget = Budget::new(allowance(share, floor, 500));
                let retries = f64::from(outage(&budget, Duration::ZERO, 60, 1_000));
                let exact = f64::from(share) / 100.0 * 60_000.0;
                let floor = f64::from(floor) * 70.0;
                assert!(retries <= exact + floor, "{share} %: {retries}");
                assert!(retries >= (exact + floor) * 0.995, "{share} %: {retries}");
            }
        }
    }

    #[test]
    fn g2_the_burst_after_a_quiet_time_is_capped() {
        for burst in [0, 1, 20, 500] {
            let budget = Budget::new(allowance(20, 3, burst));
            for n in 0..10_000u32 {
                budget.deposit_at(budget.start + Duration::from_millis(n.into()));
            }
            // The outage begins: a thousand requests within one millisecond.
            let now = budget.start + Duration::from_secs(10);
            let retries = (0..1_000).filter(|_| budget.withdraw_at(now)).count();
            assert_eq!(retries, burst as usize);
        }
    }

    #[test]
    fn retries_after_a_burst_go_on_at_the_ratio_at_once() {
        let budget = Budget::new(allowance(20, 0, 500));
        for n in 0..10_000u32 {
            budget.deposit_at(budget.start + Duration::from_millis(n.into()));
        }
        let burst = outage(&budget, Duration::from_secs(10), 1, 1_000);
        let next = outage(&budget, Duration::from_secs(11), 1, 1_000);
        // Of the first deposit a fraction is beyond the burst.
        assert_eq!((burst, next), (699, 200));
    }

    #[test]
    fn g3_three_layers_multiply_by_the_share_and_not_by_the_tries() {
        let budgets: Vec<_> = (0..3).map(|_| Budget::new(allowance(20, 0, 500))).collect();
        fn call(budgets: &[Budget], now: Instant) -> u32 {
            let Some((budget, below)) = budgets.split_first() else {
                return 1;
            };
            budget.deposit_at(now);
            let mut leaf = call(below, now);
            for _ in 0..3 {
                if budget.withdraw_at(now) {
                    leaf += call(below, now);
                }
            }
            leaf
        }
        let leaf: u32 = (0..30_000u32)
            .map(|n| call(&budgets, budgets[0].start + Duration::from_millis(n.into())))
            .sum();
        let factor = f64::from(leaf) / 30_000.0;
        assert!((1.70..=1.2f64.powi(3)).contains(&factor), "{factor}");
    }

    /// The share of requests that succeed in the last five of 25 seconds, of which the server is
    /// down from the fifth to the fifteenth.
    ///
    /// 750 requests a second meet a server that works off 1,000 tries a second in their order,
    /// whether their clients still wait or not, and lets 400 queue. Clients wait for 250 ms and try
    /// three times more if `retry` lets them.
    fn goodput_after_outage(deposit: impl Fn(Instant), retry: impl Fn(Instant) -> bool) -> f64 {
        let start = Instant::now();
        let mut queue: VecDeque<(u64, Rc<Cell<bool>>)> = VecDeque::new();
        let mut waiting: VecDeque<(u64, u32, Rc<Cell<bool>>)> = VecDeque::new();
        let (mut made, mut good) = (0u32, 0u32);
        for time in 0..25_000u64 {
            let (now, counted) = (start + Duration::from_millis(time), time >= 20_000);
            let mut tries = Vec::new();
            if time % 4 != 0 {
                deposit(now);
                made += u32::from(counted);
                tries.push(3);
            }
            while waiting.front().is_some_and(|(at, ..)| at + 250 <= time) {
                let (_, left, answered) = waiting.pop_front().unwrap();
                if !answered.get() && left > 0 && retry(now) {
                    tries.push(left - 1);
                }
            }
            for left in tries {
                let answered = Rc::new(Cell::new(false));
                waiting.push_back((time, left, answered.clone()));
                if queue.len() < 400 {
                    queue.push_back((time, answered));
                }
            }
            if !(5_000..15_000).contains(&time)
                && let Some((at, answered)) = queue.pop_front()
                && at + 250 > time
            {
                answered.set(true);
                good += u32::from(counted);
            }
        }
        f64::from(good) / f64::from(made)
    }

    /// The budget can only help where the share fits into the headroom: 750 and a fifth are below
    /// 1,000.
    #[test]
    fn g4_a_service_recovers_from_an_outage_with_the_budget_and_not_without() {
        let without = goodput_after_outage(|_| {}, |_| true);
        assert!(without < 0.1, "{without}");
        let budget = Budget::new(Allowance::default());
        let with =
            goodput_after_outage(|now| budget.deposit_at(now), |now| budget.withdraw_at(now));
        assert!(with >= 0.99, "{with}");
    }

    #[test]
    fn the_floor_serves_clients_with_few_requests_and_fills_no_further_than_its_ttl() {
        let budget = Budget::new(allowance(20, 3, 500));
        let at = |seconds| budget.start + Duration::from_secs(seconds);
        let drain = |now| (0..100).take_while(|_| budget.withdraw_at(now)).count();
        assert_eq!(drain(at(0)), 30);
        assert_eq!(drain(at(1)), 3);
        assert_eq!(drain(at(1_000)), 30);
    }

    #[test]
    fn tokens_expire_after_their_ttl() {
        let budget = Budget::new(allowance(100, 0, 500));
        budget.deposit_at(budget.start);
        budget.deposit_at(budget.start);
        assert!(budget.withdraw_at(budget.start + Duration::from_millis(9_300)));
        assert!(!budget.withdraw_at(budget.start + Duration::from_secs(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_remains_is_what_the_share_and_the_floor_offer_up_to_the_burst() {
        let budget = Budget::new(allowance(20, 3, 40));
        assert_eq!(budget.remaining(), 30);
        // Five of a fifth make a whole one.
        for (deposits, remaining) in [(10, 32), (4, 32), (1, 33), (100, 40)] {
            (0..deposits).for_each(|_| budget.deposit());
            assert_eq!(budget.remaining(), remaining, "{deposits} more");
        }
        assert!(budget.withdraw());
        assert_eq!(budget.remaining(), 39);
    }

    #[test]
    fn a_retry_costs_a_whole_token_and_no_more() {
        let budget = Budget::new(allowance(20, 0, 500));
        (0..4).for_each(|_| budget.deposit_at(budget.start));
        assert!(!budget.withdraw_at(budget.start));
        budget.deposit_at(budget.start);
        assert!(budget.withdraw_at(budget.start));
        assert!(!budget.withdraw_at(budget.start));
    }

    /// The slot of the number 32 after a deposit, if it was this before.
    fn after_a_deposit(before: u64) -> (u32, u32) {
        let budget = Budget::new(allowance(20, 0, 500));
        budget.slots[0].store(before, Ordering::Relaxed);
        budget.deposit_at(budget.start + Duration::from_secs(20));
        let Slot(number, tokens) = unpack(budget.slots[0].load(Ordering::Relaxed));
        (number, tokens)
    }

    #[test]
    fn a_slot_takes_deposits_until_it_is_full_and_from_its_own_time_on() {
        let full = u32::MAX / 2;
        for (row, owner, tokens, expected) in [
            ("its own", 32, 600, (32, 800)),
            ("nearly full", 32, full - 1, (32, full + 199)),
            ("full", 32, full, (32, full)),
            ("of an earlier time", 16, 600, (32, 200)),
            ("of an earlier time, and full", 16, full, (32, 200)),
            ("of a later time", 48, 600, (48, 600)),
            // Numbers wrap around: half of them are earlier.
            (
                "of the earliest time",
                32_u32.wrapping_sub(full),
                600,
                (32, 200),
            ),
            (
                "of the latest time",
                32_u32.wrapping_sub(full + 1),
                600,
                (32_u32.wrapping_sub(full + 1), 600),
            ),
        ] {
            assert_eq!(after_a_deposit(pack(owner, tokens)), expected, "{row}");
        }
    }

    #[test]
    fn extreme_allowances_are_safe() {
        for ttl in [Duration::ZERO, Duration::MAX] {
            let budget = Budget::new(Allowance {
                share: Percent::HUNDRED,
                floor: u32::MAX,
                ttl,
                burst: u32::MAX,
            });
            budget.deposit();
            assert!(budget.withdraw() && budget.remaining() > 0);
        }
    }

    #[test]
    fn concurrent_withdrawals_spend_each_token_once() {
        let budget = Budget::new(allowance(20, 0, 100_000));
        let now = budget.start + Duration::from_secs(1);
        let retries: usize = std::thread::scope(|scope| {
            let client = || {
                (0..5_000)
                    .filter(|_| {
                        budget.deposit_at(now);
                        budget.withdraw_at(now)
                    })
                    .count()
            };
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
            clients
                .into_iter()
                .map(|client| client.join().unwrap())
                .sum()
        });
        let rest = (0..5_000).filter(|_| budget.withdraw_at(now)).count();
        assert_eq!(retries + rest, 4_000);
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn retries_over_any_window_are_bounded(
            share in 1u32..=90,
            floor in 0u32..5,
            events in proptest::collection::vec((0u64..2_000, any::<bool>(), 1u32..8), 1..60),
        ) {
            let budget = Budget::new(allowance(share, floor, 500));
            let (mut time, mut requests, mut retries) = (0, Vec::new(), Vec::new());
            for (gap, failing, count) in events {
                time += gap;
                let now = budget.start + Duration::from_millis(time);
                for _ in 0..count {
                    budget.deposit_at(now);
                    requests.push(time);
                    if failing && budget.withdraw_at(now) {
                        retries.push(time);
                    }
                }
            }
            for (first, from) in retries.iter().enumerate() {
                for (last, to) in retries.iter().enumerate().skip(first) {
                    let made = (last - first + 1) as f64;
                    let since = from.saturating_sub(10_000);
                    let paying = requests.partition_point(|at| at <= to)
                        - requests.partition_point(|at| *at < since);
                    let window = (to - from) as f64 / 1_000.0 + 10.0;
                    let allowed = paying as f64 * f64::from(share) / 100.0 + f64::from(floor) * window;
                    prop_assert!(made <= allowed + 1e-6, "{made} > {allowed} in {from}..{to}");
                }
            }
        }
    }
}
