//! The tower layer.

use std::num::NonZeroU32;

use tower_layer::Layer;

use super::{Balance, Rules};
use crate::model::Percent;
use crate::model::outlier::Outlier;
use crate::random::Random;

/// Spreads requests over a fixed list of services; see [`Balance`].
///
/// ```
/// use meshwork::layer::balance::BalanceLayer;
/// use meshwork::model::cluster::Balancing;
/// use meshwork::model::outlier::Outlier;
/// use tower_layer::Layer;
///
/// # fn wrap<S>(one: S, two: S) {
/// let layer = BalanceLayer::new(Balancing::LeastRequest).outlier(Outlier::default());
/// let service = layer.layer(vec![one, two]);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BalanceLayer {
    pub(super) rules: Rules,
    pub(super) outlier: Option<Outlier>,
    pub(super) random: Random,
}

impl BalanceLayer {
    /// A layer that picks in this way and ejects nobody. Services have equal places: there is one
    /// priority.
    #[must_use]
    pub fn new(rules: impl Into<Rules>) -> Self {
        Self {
            rules: rules.into(),
            outlier: None,
            random: Random::from_entropy(),
        }
    }

    /// Ejects services that fail.
    #[must_use]
    pub fn outlier(mut self, policy: Outlier) -> Self {
        self.outlier = Some(policy);
        self
    }

    /// Ignores ejections while less than this share of the services is admitted. Default 0: never;
    /// when all are ejected, calls fail at once.
    #[must_use]
    pub fn panic_threshold(mut self, threshold: Percent) -> Self {
        self.rules.panic_threshold = threshold;
        self
    }

    /// Draws from `random`.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// Spreads requests over services of unequal weight.
    #[must_use]
    pub fn weighted<S>(&self, services: Vec<(S, NonZeroU32)>) -> Balance<S> {
        Balance::new(services, self.clone())
    }
}

/// Over services of equal weight; see [`BalanceLayer::weighted`].
impl<S> Layer<Vec<S>> for BalanceLayer {
    type Service = Balance<S>;

    fn layer(&self, services: Vec<S>) -> Balance<S> {
        let equal = |service| (service, NonZeroU32::MIN);
        self.weighted(services.into_iter().map(equal).collect())
    }
}
