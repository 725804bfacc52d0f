//! What is known of one connection without a lock.
//!
//! A request enters and leaves a connection with one atomic operation each. How many streams are
//! active and how many requests the connection may still carry are halves of one word, so that
//! "the last request" and "no more" cannot be seen apart.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The low half of [`Slot::gauge`]: requests under way.
const ACTIVE: u64 = 0xffff_ffff;
/// The high half of [`Slot::gauge`] starts here: requests that may still enter.
const LEFT: u32 = 32;
/// A connection without a limit of requests; it is not counted down.
const ANY: u32 = u32::MAX;

/// One connection's state, shared by its driver, its requests and the endpoint.
///
/// All orderings are sequentially consistent: leaving a connection and looking for waiters, and
/// waiting and looking for a free connection, are the two halves of Dekker's handshake.
#[derive(Debug)]
pub(super) struct Slot {
    id: u64,
    born: Instant,
    gauge: AtomicU64,
    limit: AtomicU32,
    idle_since: AtomicU64,
    aborted: AtomicBool,
    /// Whether the request under way may switch the connection to another protocol (HTTP/1.1).
    switching: AtomicBool,
    /// Whether the peer takes extended CONNECT (HTTP/2).
    tunnels: AtomicBool,
    wake: Notify,
}

/// How a request entered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Entry {
    /// As the last one that this connection carries.
    Last,
    /// Others may follow.
    More,
}

impl Slot {
    /// A connection that takes no request until [`set_limit`](Self::set_limit) lets it.
    pub(super) fn new(id: u64, requests: Option<NonZeroU32>) -> Self {
        let left = requests.map_or(ANY, NonZeroU32::get);
        Self {
            id,
            born: Instant::now(),
            gauge: AtomicU64::new(u64::from(left) << LEFT),
            limit: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            aborted: AtomicBool::new(false),
            switching: AtomicBool::new(false),
            tunnels: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// How many requests may be under way at once. True if that is more than before.
    pub(super) fn set_limit(&self, limit: u32) -> bool {
        self.limit.swap(limit, SeqCst) < limit
    }

    /// Takes a place, if there is one.
    pub(super) fn enter(&self) -> Option<Entry> {
        let mut entry = Entry::More;
        self.gauge
            .fetch_update(SeqCst, SeqCst, |gauge| {
                let left = (gauge >> LEFT) as u32;
                let active = (gauge & ACTIVE) as u32;
                if left == 0 || active >= self.limit.load(SeqCst) {
                    return None;
                }
                let left = if left == ANY { ANY } else { left - 1 };
                entry = if left == 0 { Entry::Last } else { Entry::More };
                Some(u64::from(left) << LEFT | u64::from(active + 1))
            })
            .is_ok()
            .then_some(entry)
    }

    /// Gives the place back.
    pub(super) fn leave(&self) {
        let before = self.gauge.fetch_sub(1, SeqCst);
        if before & ACTIVE == 1 {
            // A driver that looks between the two lines may close the connection as idle a little
            // early: nobody uses it, so the price is one dial.
            self.touch();
            if before >> LEFT == 0 {
                self.wake.notify_one();
            }
        }
    }

    /// The connection is without a request from now on.
    pub(super) fn touch(&self) {
        let age = self.born.elapsed().as_nanos();
        self.idle_since
            .store(u64::try_from(age).unwrap_or(u64::MAX), SeqCst);
    }

    pub(super) fn idle_since(&self) -> Instant {
        self.born + Duration::from_nanos(self.idle_since.load(SeqCst))
    }

    pub(super) fn active(&self) -> u32 {
        (self.gauge.load(SeqCst) & ACTIVE) as u32
    }

    /// Whether no request may enter any more.
    pub(super) fn is_closed(&self) -> bool {
        self.gauge.load(SeqCst) >> LEFT == 0
    }

    /// Whether no request is under way and none may come.
    pub(super) fn is_spent(&self) -> bool {
        self.gauge.load(SeqCst) == 0
    }

    /// Lets no further request in.
    pub(super) fn close(&self) {
        self.gauge.fetch_and(ACTIVE, SeqCst);
        self.wake.notify_one();
    }

    /// Lets no further request in, provided that none is under way.
    pub(super) fn close_if_idle(&self) -> bool {
        self.gauge
            .fetch_update(SeqCst, SeqCst, |gauge| (gauge & ACTIVE == 0).then_some(0))
            .is_ok()
    }

    /// Ends the connection at once, whatever is under way.
    pub(super) fn abort(&self) {
        self.aborted.store(true, SeqCst);
        self.close();
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.aborted.load(SeqCst)
    }

    /// Whether the request that has just entered may switch the connection to another protocol.
    pub(super) fn set_switching(&self, switching: bool) {
        self.switching.store(switching, SeqCst);
    }

    pub(super) fn is_switching(&self) -> bool {
        self.switching.load(SeqCst)
    }

    /// What the peer's SETTINGS say of extended CONNECT (RFC 8441 §3).
    pub(super) fn set_tunnels(&self, tunnels: bool) {
        self.tunnels.store(tunnels, SeqCst);
    }

    pub(super) fn takes_tunnels(&self) -> bool {
        self.tunnels.load(SeqCst)
    }

    /// Where the driver hears of [`close`](Self::close), [`abort`](Self::abort) and of the last
    /// request of a closed connection. Only the driver may wait for it.
    pub(super) fn wake(&self) -> &Notify {
        &self.wake
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn enters_up_to_the_limit_and_never_after_the_last() {
        let slot = Slot::new(0, NonZeroU32::new(3));
        assert_eq!(slot.enter(), None);
        assert!(slot.set_limit(2));
        assert!(!slot.set_limit(2));
        assert_eq!(slot.enter(), Some(Entry::More));
        assert_eq!(slot.enter(), Some(Entry::More));
        assert_eq!(slot.enter(), None, "two at once");
        slot.leave();
        assert_eq!(slot.enter(), Some(Entry::Last));
        slot.leave();
        assert_eq!(slot.enter(), None, "three in all");
        assert!(slot.is_closed() && !slot.is_spent());
        slot.leave();
        assert!(slot.is_spent());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_close_needs_an_idle_connection_and_knows_since_when() {
        let slot = Slot::new(0, None);
        slot.set_limit(u32::MAX);
        slot.enter().unwrap();
        assert!(!slot.close_if_idle());
        tokio::time::advance(Duration::from_secs(5)).await;
        slot.leave();
        assert_eq!(slot.idle_since(), slot.born + Duration::from_secs(5));
        assert!(slot.close_if_idle() && slot.is_spent());
        assert_eq!(slot.enter(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lowered_limit_lets_the_surplus_finish() {
        let slot = Slot::new(0, None);
        slot.set_limit(2);
        slot.enter().unwrap();
        slot.enter().unwrap();
        assert!(!slot.set_limit(1));
        slot.leave();
        assert_eq!(slot.enter(), None);
        slot.leave();
        assert!(slot.enter().is_some());
    }

    /// Every order in which threads of so many steps each can run; a step is one atomic operation,
    /// and where all of them are sequentially consistent there are no other executions.
    fn interleavings(
        steps: &mut [usize],
        order: &mut Vec<usize>,
        visit: &mut impl FnMut(&[usize]),
    ) {
        if steps.iter().all(|left| *left == 0) {
            visit(order);
        }
        for thread in 0..steps.len() {
            if steps[thread] > 0 {
                steps[thread] -= 1;
                order.push(thread);
                interleavings(steps, order, visit);
                order.pop();
                steps[thread] += 1;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn g14_in_every_order_no_place_is_given_twice_and_none_after_the_end() {
        // Three requests (enter, leave), and the driver, which closes at some moment.
        for (limit, requests) in [(1, None), (2, None), (2, NonZeroU32::new(2)), (3, None)] {
            let mut orders = 0;
            interleavings(&mut [2, 2, 2, 1], &mut Vec::new(), &mut |order| {
                orders += 1;
                let slot = Slot::new(0, requests);
                slot.set_limit(limit);
                let mut inside = [None; 3];
                let mut begun = [false; 3];
                let (mut closed, mut last, mut entered) = (false, 0, 0);
                for &thread in order {
                    match thread {
                        3 => {
                            slot.close();
                            closed = true;
                        }
                        request if !begun[request] => {
                            begun[request] = true;
                            inside[request] = slot.enter();
                            assert!(!closed || inside[request].is_none(), "{order:?}");
                            entered += u32::from(inside[request].is_some());
                            last += u32::from(inside[request] == Some(Entry::Last));
                        }
                        request => {
                            if inside[request].take().is_some() {
                                slot.leave();
                            }
                        }
                    }
                    let active = inside.iter().flatten().count();
                    assert!(active <= limit as usize, "{order:?}");
                    assert_eq!(slot.active() as usize, active, "{order:?}");
                    assert_eq!(
                        slot.is_spent(),
                        active == 0 && slot.is_closed(),
                        "{order:?}"
                    );
                }
                assert!(slot.is_spent(), "{order:?}: something was not given back");
                assert!(
                    requests.is_none_or(|most| entered <= most.get()),
                    "{order:?}"
                );
                assert!(last <= 1, "{order:?}: two were the last");
            });
            assert_eq!(orders, 630);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn g14_in_every_order_an_idle_connection_is_closed_or_used_and_never_both() {
        interleavings(&mut [2, 2, 1, 1], &mut Vec::new(), &mut |order| {
            let slot = Slot::new(0, None);
            slot.set_limit(5);
            let (mut inside, mut begun) = ([false; 2], [false; 2]);
            let mut gone = false;
            for &thread in order {
                match thread {
                    2 | 3 => gone |= slot.close_if_idle(),
                    request if !begun[request] => {
                        begun[request] = true;
                        inside[request] = slot.enter().is_some();
                        assert_eq!(inside[request], !gone, "{order:?}");
                    }
                    request => {
                        if std::mem::take(&mut inside[request]) {
                            slot.leave();
                        }
                    }
                }
                assert!(!gone || slot.active() == 0, "{order:?}");
            }
        });
    }
}
