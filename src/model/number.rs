use std::fmt;

use thiserror::Error;

/// A whole percentage, 0 to 100.
///
/// ```
/// use meshwork::model::Percent;
///
/// assert_eq!(Percent::new(90)?.value(), 90);
/// assert!(Percent::new(101).is_err());
/// # Ok::<(), meshwork::model::InvalidPercent>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Percent(u8);

/// A percentage above 100.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("{0} is not a percentage: 0 to 100 is allowed")]
pub struct InvalidPercent(pub u32);

impl Percent {
    /// No part.
    pub const ZERO: Self = Self(0);
    /// A tenth.
    pub const TEN: Self = Self(10);
    /// All of it.
    pub const HUNDRED: Self = Self(100);

    /// A percentage from its number.
    ///
    /// # Errors
    /// If `value` is above 100.
    pub fn new(value: u32) -> Result<Self, InvalidPercent> {
        u8::try_from(value)
            .ok()
            .filter(|percent| *percent <= 100)
            .map(Self)
            .ok_or(InvalidPercent(value))
    }

    /// The number, 0 to 100.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0 as u32
    }
}

/// A share of all requests in parts per million, the finest step that Envoy knows.
///
/// ```
/// use meshwork::model::Fraction;
///
/// let tenth = Fraction::from_percent(10.0)?;
/// assert_eq!(tenth.parts_per_million(), 100_000);
/// assert!(tenth.includes(99_999) && !tenth.includes(100_000));
/// # Ok::<(), meshwork::model::InvalidFraction>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fraction(u32);

/// A share outside of 0 to 100 percent, or not a number.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
#[error("{0} is not a share: 0 to 100 percent is allowed")]
pub struct InvalidFraction(pub f64);

impl Fraction {
    /// No request.
    pub const ZERO: Self = Self(0);
    /// Every request.
    pub const ONE: Self = Self(1_000_000);

    /// A share from percent; finer digits than 0.0001 % are rounded.
    ///
    /// # Errors
    /// If `percent` is not a number from 0 to 100.
    pub fn from_percent(percent: f64) -> Result<Self, InvalidFraction> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(InvalidFraction(percent));
        }
        // In range by the check above, so the cast is exact after rounding.
        Ok(Self((percent * 10_000.0).round() as u32))
    }

    /// A share from parts per million.
    ///
    /// # Errors
    /// If `parts` is above one million.
    pub fn from_parts_per_million(parts: u32) -> Result<Self, InvalidFraction> {
        if parts > Self::ONE.0 {
            return Err(InvalidFraction(f64::from(parts) / 10_000.0));
        }
        Ok(Self(parts))
    }

    /// The share in parts per million.
    #[must_use]
    pub const fn parts_per_million(self) -> u32 {
        self.0
    }

    /// Whether a draw from `0..1_000_000` falls within the share.
    #[must_use]
    pub const fn includes(self, draw: u32) -> bool {
        draw < self.0
    }
}

/// In percent, with as many digits as it has.
impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 10_000.0)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fraction_refuses_what_is_no_share() {
        for bad in [-0.1, 100.1, f64::NAN, f64::INFINITY] {
            assert!(Fraction::from_percent(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Fraction::from_percent(0.0001).unwrap().parts_per_million(),
            1
        );
        assert_eq!(Fraction::from_percent(100.0).unwrap(), Fraction::ONE);
        assert!(Fraction::from_parts_per_million(1_000_001).is_err());
    }
}
