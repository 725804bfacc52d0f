//! The rungs, from the ground up.

#[cfg(feature = "otel")]
use meshwork::model::Fraction;
use meshwork::model::cluster::Balancing;

use crate::bare::{self, Http1, Http2, NoOp};
use crate::call::{Caller, Form, Tower, caller};
use crate::change;
use crate::floor::ByHand;
use crate::layers;
use crate::mesh;
use crate::pick::{self, Blind, Picking};
use crate::scenario::{ENDPOINTS, Step};
use crate::transport::Direct;
use crate::wire::{self, Speaks};

/// One way to make the call.
pub(crate) struct Rung {
    /// `family/what it is`; also the key of its gate.
    pub(crate) name: String,
    /// Sets it up.
    pub(crate) prepare: Prepare,
}

pub(crate) type Prepare = Box<dyn Fn() -> Box<dyn Caller>>;

impl Rung {
    pub(crate) fn family(&self) -> &str {
        family(&self.name)
    }
}

/// The family of the rung of this name.
pub(crate) fn family(name: &str) -> &str {
    name.split_once('/').map_or(name, |(family, _)| family)
}

/// All rungs. The first of each family is its floor: what the others are compared with.
pub(crate) fn all() -> Vec<Rung> {
    let mut all = no_op();
    all.extend(pick());
    all.extend(change());
    all.extend(hosts());
    all.extend(layers());
    all.extend(http1());
    all.extend(http2());
    all.extend(tcp());
    all
}

fn rung(name: impl Into<String>, prepare: impl Fn() -> Box<dyn Caller> + 'static) -> Rung {
    Rung {
        name: name.into(),
        prepare: Box::new(prepare),
    }
}

/// Over an endpoint that answers at once: what the mesh itself costs.
fn no_op() -> Vec<Rung> {
    let step = |name, step, endpoints| {
        rung(name, move || {
            caller(Form::Path, async || {
                Tower(mesh::answering(step, endpoints).await)
            })
        })
    };
    vec![
        rung("no-op/endpoint", || {
            caller(Form::Path, async || Tower(NoOp))
        }),
        rung("no-op/by hand", || {
            caller(Form::Path, async || Tower(ByHand::default()))
        }),
        rung("no-op/connections", || {
            caller(Form::Path, async || Direct::answering())
        }),
        step("no-op/mesh", Step::Mesh, 1),
        step("no-op/+ route", Step::Route, 1),
        step("no-op/+ limits", Step::Limit, 1),
        step("no-op/+ balance 10", Step::Limit, ENDPOINTS),
        step("no-op/+ balance 10,000", Step::Limit, 10_000),
        step("no-op/+ outlier", Step::Outlier, ENDPOINTS),
        step("no-op/+ timeout", Step::Timeout, ENDPOINTS),
        step("no-op/+ retry", Step::Retry, ENDPOINTS),
        rung("no-op/without metrics", || {
            caller(Form::Path, async || {
                Tower(mesh::unmeasured(Step::Retry).await)
            })
        }),
        rung("no-op/+ logs", || {
            caller(Form::Path, async || Tower(mesh::logged().await))
        }),
        #[cfg(feature = "otel")]
        rung("no-op/+ traces unsampled", || {
            caller(Form::Path, async || {
                Tower(mesh::traced(Fraction::ZERO).await)
            })
        }),
        #[cfg(feature = "otel")]
        rung("no-op/+ traces", || {
            caller(Form::Path, async || {
                Tower(mesh::traced(Fraction::ONE).await)
            })
        }),
        rung("no-op/client", || {
            caller(Form::Absolute, async || {
                Tower(mesh::client(Step::Retry).await)
            })
        }),
    ]
}

/// The choice among endpoints, and nothing else.
fn pick() -> Vec<Rung> {
    let mut rungs = vec![rung("pick/endpoint", || {
        caller(Form::Path, async || Tower(NoOp))
    })];
    for (name, way) in pick::ways() {
        for (count, endpoints) in [("1", 1), ("10", ENDPOINTS), ("10,000", 10_000)] {
            let way = way.clone();
            rungs.push(rung(format!("pick/{name} {count}"), move || {
                caller(Form::Path, async || Picking::new(way.clone(), endpoints))
            }));
        }
    }
    rungs.push(rung("pick/no rule 10,000", || {
        caller(Form::Path, async || Blind::new(10_000))
    }));
    rungs
}

/// One endpoint leaves and another comes; the floor is an edit that changes nothing.
fn change() -> Vec<Rung> {
    let [(_, least), .., (_, ring), (_, maglev)] = pick::ways();
    let among = |name, endpoints, way: &Balancing, edits| {
        let way = way.clone();
        rung(name, move || change::among(endpoints, way.clone(), edits))
    };
    vec![
        among("change/nothing", 10_000, &least, false),
        among("change/least request 10", ENDPOINTS, &least, true),
        among("change/least request 10,000", 10_000, &least, true),
        among("change/least request 100,000", 100_000, &least, true),
        among("change/ring hash 10,000", 10_000, &ring, true),
        among("change/maglev 10,000", 10_000, &maglev, true),
    ]
}

/// A call among so many virtual hosts.
fn hosts() -> Vec<Rung> {
    [("hosts/1", 1), ("hosts/10,000", 10_000)]
        .map(|(name, count)| {
            rung(name, move || {
                caller(Form::Path, async || Tower(mesh::hosts(count).await))
            })
        })
        .into()
}

/// The layers alone, one over the other, over the same endpoint.
fn layers() -> Vec<Rung> {
    vec![
        rung("layers/endpoint", || {
            caller(Form::Path, async || Tower(NoOp))
        }),
        rung("layers/limit", || {
            caller(Form::Path, async || Tower(layers::limit()))
        }),
        rung("layers/balance 10", || {
            caller(Form::Path, async || Tower(layers::balance(ENDPOINTS)))
        }),
        rung("layers/balance 10,000", || {
            caller(Form::Path, async || Tower(layers::balance(10_000)))
        }),
        rung("layers/outlier", || {
            caller(Form::Path, async || Tower(layers::outlier()))
        }),
        rung("layers/retry", || {
            caller(Form::Path, async || Tower(layers::retry()))
        }),
        rung("layers/timeout", || {
            caller(Form::Path, async || Tower(layers::timeout()))
        }),
        rung("layers/all", || {
            caller(Form::Path, async || Tower(layers::all()))
        }),
    ]
}

/// In memory, over one connection; the mesh has one for each endpoint.
fn http1() -> Vec<Rung> {
    let mut rungs = vec![
        rung("http1/hyper", || caller(Form::Host, Http1::new)),
        rung("http1/connections", || {
            caller(Form::Absolute, async || Direct::in_memory(Speaks::Http1))
        }),
    ];
    rungs.extend(meshed("http1", Speaks::Http1));
    rungs
}

/// As `http1`.
fn http2() -> Vec<Rung> {
    let mut rungs = vec![
        rung("http2/hyper", || {
            caller(Form::Absolute, async || {
                Http2::new(wire::memory(Speaks::Http2)).await
            })
        }),
        rung("http2/tonic channel", || {
            caller(Form::Path, async || Tower(bare::channel_in_memory().await))
        }),
        rung("http2/connections", || {
            caller(Form::Absolute, async || Direct::in_memory(Speaks::Http2))
        }),
    ];
    rungs.extend(meshed("http2", Speaks::Http2));
    rungs
}

fn meshed(family: &str, speaks: Speaks) -> impl Iterator<Item = Rung> {
    let steps = [
        ("mesh", Step::Mesh),
        ("+ route", Step::Route),
        ("+ limits", Step::Limit),
        ("+ outlier", Step::Outlier),
        ("+ timeout", Step::Timeout),
        ("+ retry", Step::Retry),
    ];
    steps.into_iter().map(move |(name, step)| {
        rung(format!("{family}/{name}"), move || {
            caller(Form::Path, async || {
                Tower(mesh::in_memory(step, speaks).await)
            })
        })
    })
}

/// As `http2`, over the loopback interface.
fn tcp() -> Vec<Rung> {
    vec![
        rung("tcp/hyper", || {
            caller(Form::Absolute, async || {
                let address = wire::listen(Speaks::Http2).await;
                Http2::new(wire::dial(address).await.expect("the server is up")).await
            })
        }),
        rung("tcp/tonic channel", || {
            caller(Form::Path, async || {
                Tower(bare::channel(wire::listen(Speaks::Http2).await).await)
            })
        }),
        rung("tcp/connections", || {
            caller(Form::Absolute, async || {
                Direct::tcp(wire::listen(Speaks::Http2).await)
            })
        }),
        rung("tcp/+ retry", || {
            caller(Form::Path, async || Tower(mesh::tcp(Step::Retry).await))
        }),
    ]
}
