//! `decode(encode(m)) == m` in the Meshwork dialect; in the others the same is at least accepted.

use proptest::prelude::*;

use super::decode_from;
use super::models;
use crate::model::Resources;
use crate::source::xds::Dialect;
use crate::source::xds::encode::{Encoding, encode};
use crate::source::xds::resource::Resource;

/// What all messages together are again.
fn decoded(encoding: &Encoding) -> Result<Resources, String> {
    let mut resources = Resources::default();
    for one in &encoding.resources {
        let found = decode_from(one.kind, &one.bytes, true)
            .map_err(|rejection| format!("{} {}: {rejection}", one.kind, one.name))?;
        if found.name != one.name {
            return Err(format!("{} came back as {}", one.name, found.name));
        }
        match found.resource {
            Resource::Cluster {
                cluster, endpoints, ..
            } => {
                resources.clusters.insert(cluster.name.clone(), cluster);
                if let Some(endpoints) = endpoints {
                    resources
                        .endpoints
                        .insert(endpoints.name.clone(), endpoints);
                }
            }
            Resource::Endpoints(endpoints) => {
                resources
                    .endpoints
                    .insert(endpoints.name.clone(), endpoints);
            }
            Resource::Listener { listener, .. } => {
                resources.listeners.insert(listener.name.clone(), listener);
            }
            Resource::Secret(secret) => return Err(format!("{secret:?}")),
            Resource::Server(template) => return Err(format!("{template:?}")),
            Resource::RouteConfiguration { routes, .. } => {
                resources.routes.insert(routes.name.clone(), routes);
            }
        }
    }
    Ok(resources)
}

proptest! {
    #![proptest_config(crate::random::properties(256))]

    #[test]
    fn nothing_is_lost_between_model_and_messages(seed: u64) {
        let model = models::resources(seed);
        let encoding = encode(&model, Dialect::Meshwork);
        prop_assert!(encoding.lost.is_empty(), "{:?}", encoding.lost);
        let again = decoded(&encoding).map_err(TestCaseError::fail)?;
        prop_assert_eq!(again, model);
    }

    #[test]
    fn what_is_made_for_others_is_accepted_and_stays_what_it_becomes(seed: u64) {
        let model = models::resources(seed);
        for dialect in [Dialect::Grpc, Dialect::Envoy] {
            let once = decoded(&encode(&model, dialect)).map_err(TestCaseError::fail)?;
            // What came through once comes through again: the dialect's losses are all at once.
            let names = |resources: &Resources| resources.clusters.keys().cloned().collect::<Vec<_>>();
            let twice = decoded(&encode(&once, dialect)).map_err(TestCaseError::fail)?;
            prop_assert_eq!(names(&once), names(&twice));
            prop_assert_eq!(&once.routes, &twice.routes);
        }
    }

    #[test]
    fn encoding_is_a_function(seed: u64) {
        let model = models::resources(seed);
        for dialect in [Dialect::Envoy, Dialect::Grpc, Dialect::Meshwork] {
            let (one, other) = (encode(&model, dialect), encode(&model.clone(), dialect));
            prop_assert_eq!(one.resources, other.resources);
        }
    }
}
