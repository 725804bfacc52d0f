//! Allocations and time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::allocation::{self, Count};
use crate::call::Caller;
use crate::rung::Rung;

/// What one call costs on the rung of this name.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    pub(crate) name: String,
    /// Of the median call.
    pub(crate) count: Count,
    pub(crate) time: Duration,
    /// Against the family's floor, of the same rounds; 1 for the floor itself.
    pub(crate) ratio: f64,
    /// If valgrind is there and they were asked for.
    pub(crate) instructions: Option<u64>,
}

/// Calls whose allocations are counted.
const COUNTED: u32 = 501;
/// Rounds of time: in each, every rung has its turn, so that what disturbs the machine disturbs
/// all alike.
const ROUNDS: usize = 41;
/// About how long a turn lasts.
const TURN: Duration = Duration::from_millis(4);

/// Measures all rungs, which may be of several families.
pub(crate) fn measure(rungs: &[Rung]) -> Vec<Cost> {
    let mut callers: Vec<_> = rungs.iter().map(|rung| (rung.prepare)()).collect();
    let counts: Vec<_> = callers
        .iter_mut()
        .map(|caller| count(&mut **caller))
        .collect();
    let times = time(&mut callers);
    let mut costs: Vec<Cost> = Vec::with_capacity(rungs.len());
    let mut floor = 0;
    for (index, rung) in rungs.iter().enumerate() {
        if rungs[floor].family() != rung.family() {
            floor = index;
        }
        let ratios = times[index].iter().zip(&times[floor]);
        costs.push(Cost {
            name: rung.name.clone(),
            count: counts[index],
            time: Duration::from_secs_f64(median(times[index].iter().copied())),
            ratio: median(ratios.map(|(one, floor)| one / floor)),
            instructions: None,
        });
    }
    costs
}

/// What the median call allocates. A call now and then pays for the growth of a buffer that many
/// share; the median leaves that out and is a whole number.
fn count(caller: &mut dyn Caller) -> Count {
    let mut laps = Vec::with_capacity(COUNTED as usize);
    let mut before = allocation::count();
    caller.run(COUNTED, &mut || {
        let now = allocation::count();
        laps.push(now - before);
        before = now;
    });
    laps.sort_unstable();
    laps[laps.len() / 2]
}

/// Seconds per call, of each rung in each round.
fn time(callers: &mut [Box<dyn Caller>]) -> Vec<Vec<f64>> {
    let turns: Vec<u32> = callers
        .iter_mut()
        .map(|caller| {
            let pace = seconds(&mut **caller, 100);
            (TURN.as_secs_f64() / pace).clamp(1.0, 1e6) as u32
        })
        .collect();
    let mut times = vec![Vec::with_capacity(ROUNDS); callers.len()];
    for _ in 0..ROUNDS {
        for ((caller, turn), times) in callers.iter_mut().zip(&turns).zip(&mut times) {
            times.push(seconds(&mut **caller, *turn));
        }
    }
    times
}

fn seconds(caller: &mut dyn Caller, calls: u32) -> f64 {
    let start = processor_time();
    caller.run(calls, &mut || {});
    (processor_time() - start) / f64::from(calls)
}

/// Seconds for which this thread has had a processor, in user mode and in the kernel. A rung keeps
/// its one thread busy, so on an idle machine this is wall time; on a shared one it leaves out the
/// turns of others, which would otherwise decide about half of the rungs.
pub(crate) fn processor_time() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
