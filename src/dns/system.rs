//! The operating system's resolver.

use std::io;

use super::{Answer, Question, Resolution, Resolve};

/// The operating system's resolver (`getaddrinfo`), on tokio's blocking threads.
///
/// It knows no TTL, so that names are asked for again at the refresh rate, and no SRV records.
///
/// ```
/// let _mesh = meshwork::Mesh::builder().resolver(meshwork::dns::SystemResolver);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, question: &Question) -> Resolution {
        let question = question.clone();
        Box::pin(async move {
            match question {
                Question::Addresses(name) => {
                    let found = tokio::net::lookup_host((&*name, 0)).await?;
                    Ok(Answer {
                        targets: found.map(|address| address.ip().into()).collect(),
                        ttl: None,
                    })
                }
                Question::Services(_) => Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "the system's resolver knows no SRV records: enable the feature dns",
                )),
            }
        })
    }
}
