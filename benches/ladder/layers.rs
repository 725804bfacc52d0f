//! The layers as a service without a mesh stacks them, with the bench config's values.

use std::sync::Arc;

use meshwork::Random;
use meshwork::layer::balance::{Balance, BalanceLayer};
use meshwork::layer::limit::{LimitLayer, Limited, Limits};
use meshwork::layer::retry::{Policy, Retry, RetryLayer};
use meshwork::layer::timeout::{Timeout, TimeoutLayer};
use meshwork::model::cluster::Balancing;
use tower_layer::Layer;

use crate::bare::NoOp;
use crate::scenario;

pub(crate) fn limit() -> Limited<NoOp> {
    LimitLayer::new(Arc::new(Limits::new(&scenario::limits()))).layer(NoOp)
}

pub(crate) fn balance(endpoints: usize) -> Balance<NoOp> {
    balancing().layer(vec![NoOp; endpoints])
}

/// Over ten endpoints that can be ejected.
pub(crate) fn outlier() -> Balance<NoOp> {
    balancing()
        .outlier(scenario::outlier())
        .layer(vec![NoOp; scenario::ENDPOINTS])
}

pub(crate) fn retry() -> Retry<NoOp> {
    retrying().layer(NoOp)
}

pub(crate) fn timeout() -> Timeout<NoOp> {
    TimeoutLayer::new(scenario::TIMEOUT).layer(NoOp)
}

/// All of them, in the order of the mesh.
pub(crate) fn all() -> Timeout<Retry<Limited<Balance<NoOp>>>> {
    let limit = LimitLayer::new(Arc::new(Limits::new(&scenario::limits())));
    TimeoutLayer::new(scenario::TIMEOUT).layer(retrying().layer(limit.layer(outlier())))
}

fn retrying() -> RetryLayer {
    RetryLayer::new(Policy::new(&scenario::retry())).random(Random::seeded(scenario::SEED))
}

fn balancing() -> BalanceLayer {
    BalanceLayer::new(Balancing::LeastRequest).random(Random::seeded(scenario::SEED))
}
