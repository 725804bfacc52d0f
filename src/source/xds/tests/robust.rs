//! No bytes panic: good messages of every kind, with bytes changed, cut off, and put in twice.

use proptest::prelude::*;

use super::{decode, models};
use crate::source::xds::Dialect;
use crate::source::xds::encode::encode;

proptest! {
    #![proptest_config(crate::random::properties(128))]

    #[test]
    fn d1_any_change_of_a_good_message_is_survived(
        seed: u64,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut: prop::sample::Index,
    ) {
        for one in encode(&models::resources(seed), Dialect::Meshwork).resources {
            let mut bytes = one.bytes.to_vec();
            for (place, value) in &changes {
                let place = place.index(bytes.len());
                bytes[place] = *value;
            }
            // Whether it is accepted does not matter: it ends, and says what is wrong if it does not.
            if let Err(rejection) = decode(one.kind, &bytes) {
                prop_assert!(!rejection.faults.is_empty());
                prop_assert!(rejection.to_string().len() < 64_000);
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            let _ = decode(one.kind, &bytes);
        }
    }

    #[test]
    fn d1_any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for kind in crate::source::xds::Kind::ALL {
            let _ = decode(kind, &bytes);
        }
    }
}
