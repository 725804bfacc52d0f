//! The tower layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::{Faulty, Injector};
use crate::model::fault::Fault;
use crate::random::Random;

/// Injects faults in front of a service; see [`Faulty`].
///
/// ```
/// use std::time::Duration;
///
/// use meshwork::layer::fault::FaultLayer;
/// use meshwork::model::Fraction;
/// use meshwork::model::fault::{Amount, Delay, Fault};
/// use tower_layer::Layer;
///
/// # fn wrap<S>(inner: S) -> Result<(), meshwork::model::InvalidFraction> {
/// let slow = FaultLayer::new(Fault {
///     delay: Some(Delay {
///         duration: Amount::Fixed(Duration::from_secs(5)),
///         share: Fraction::from_percent(10.0)?,
///     }),
///     abort: None,
///     max_active: None,
/// });
/// let service = slow.layer(inner);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct FaultLayer {
    injector: Arc<Injector>,
    random: Random,
}

impl FaultLayer {
    /// A layer with this policy. `max_active` counts over all services that it makes.
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self {
            injector: Arc::new(Injector::new(fault)),
            random: Random::from_entropy(),
        }
    }

    /// Draws from `random`.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }
}

impl<S> Layer<S> for FaultLayer {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        Faulty::new(inner, self.injector.clone(), self.random.clone())
    }
}
