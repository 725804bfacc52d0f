//! The rungs, from the ground up.

use crate::bare::{self, Http1, Http2, NoOp};
use crate::call::{Caller, Form, Tower, caller};
use crate::layers;
use crate::transport::Direct;
use crate::wire::{self, Speaks};

/// One way to make the call.
pub(crate) struct Rung {
    /// `family/what it is`; also the key of its gate.
    pub(crate) name: &'static str,
    /// Sets it up.
    pub(crate) prepare: fn() -> Box<dyn Caller>,
}

impl Rung {
    pub(crate) fn family(&self) -> &'static str {
        self.name
            .split_once('/')
            .map_or(self.name, |(family, _)| family)
    }
}

/// All rungs. The first of each family is its floor: what the others are compared with.
pub(crate) fn all() -> Vec<Rung> {
    let mut all = Vec::new();
    all.extend(no_op());
    all.extend(layers());
    all.extend(http1());
    all.extend(http2());
    all.extend(tcp());
    all
}

fn rung(name: &'static str, prepare: fn() -> Box<dyn Caller>) -> Rung {
    Rung { name, prepare }
}

/// Over an endpoint that answers at once: what the mesh itself costs.
fn no_op() -> [Rung; 2] {
    [
        rung("no-op/endpoint", || {
            caller(Form::Path, async || Tower(NoOp))
        }),
        rung("no-op/connections", || {
            caller(Form::Path, async || Direct::answering())
        }),
    ]
}

/// The layers alone, one over the other, over the same endpoint.
fn layers() -> [Rung; 6] {
    [
        rung("layers/endpoint", || {
            caller(Form::Path, async || Tower(NoOp))
        }),
        rung("layers/limit", || {
            caller(Form::Path, async || Tower(layers::limit()))
        }),
        rung("layers/balance 10", || {
            caller(Form::Path, async || Tower(layers::balance(10)))
        }),
        rung("layers/balance 10,000", || {
            caller(Form::Path, async || Tower(layers::balance(10_000)))
        }),
        rung("layers/outlier", || {
            caller(Form::Path, async || Tower(layers::outlier()))
        }),
        rung("layers/timeout", || {
            caller(Form::Path, async || Tower(layers::timeout()))
        }),
    ]
}

fn http1() -> [Rung; 2] {
    [
        rung("http1/hyper", || caller(Form::Host, Http1::new)),
        rung("http1/connections", || {
            caller(Form::Absolute, async || Direct::in_memory(Speaks::Http1))
        }),
    ]
}

fn http2() -> [Rung; 3] {
    [
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
    ]
}

/// As `http2`, over the loopback interface.
fn tcp() -> [Rung; 3] {
    [
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
    ]
}
