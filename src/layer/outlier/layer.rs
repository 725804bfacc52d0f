//! The tower layer.

use tower_layer::Layer;

use super::Ejecting;
use crate::model::outlier::Outlier;
use crate::random::Random;

/// Stops sending to an inner service that fails; see [`Ejecting`].
///
/// Each service that the layer makes is a host of its own; clones of that service share its
/// record.
///
/// ```
/// use meshwork::layer::outlier::OutlierLayer;
/// use meshwork::model::outlier::Outlier;
/// use tower_layer::Layer;
///
/// # fn wrap<S>(inner: S) {
/// let service = OutlierLayer::new(Outlier::default()).layer(inner);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct OutlierLayer {
    policy: Outlier,
    random: Random,
}

impl OutlierLayer {
    /// A layer with this policy. Its caps on the share of ejected hosts have no meaning for a
    /// single one and are not looked at.
    #[must_use]
    pub fn new(policy: Outlier) -> Self {
        Self {
            policy,
            random: Random::from_entropy(),
        }
    }

    /// Draws from `random` whether a rate below 100 % `enforcing` ejects.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }
}

impl<S> Layer<S> for OutlierLayer {
    type Service = Ejecting<S>;

    fn layer(&self, inner: S) -> Ejecting<S> {
        Ejecting::new(inner, self.policy.clone(), self.random.clone())
    }
}
