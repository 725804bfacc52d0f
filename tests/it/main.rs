//! One binary for all integration tests, so that linking is paid once. Try not to add another.

#[cfg(all(feature = "outbound", feature = "test-util"))]
mod allocation;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "yaml")]
mod compile;
#[cfg(feature = "control-plane")]
mod control;
mod house;
#[cfg(feature = "yaml")]
mod istio;
mod layer;
#[cfg(feature = "outbound")]
mod mesh;
#[cfg(feature = "test-util")]
mod testing;
#[cfg(feature = "tls-core")]
mod tls;
#[cfg(feature = "outbound")]
mod transport;
#[cfg(feature = "xds")]
mod xds;

/// How properties are tested here: `cases` inputs, the same ones in every run, so that a build is
/// red for a change and not for its luck. `PROPTEST_RNG_SEED` looks elsewhere.
#[cfg(feature = "outbound")]
fn properties(cases: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};

    let config = Config::default();
    Config {
        cases,
        failure_persistence: None,
        rng_seed: match config.rng_seed {
            RngSeed::Random => RngSeed::Fixed(0x9e37_79b9_7f4a_7c15),
            fixed @ RngSeed::Fixed(_) => fixed,
        },
        ..config
    }
}
