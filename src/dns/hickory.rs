//! Hickory: a resolver that tells TTLs and knows SRV.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::sync::OnceCell;

use super::{Answer, Question, Resolution, Resolve, Target};

/// How many hosts of one SRV answer are resolved.
const MAX_SERVICE_HOSTS: usize = 64;

/// The name servers, search domains and `ndots` of `/etc/resolv.conf`, and `/etc/hosts` (of the
/// registry on Windows), read at the first question; if they cannot be read then, at the next.
///
/// Its own cache is off: the mesh remembers, with its own clock. A and AAAA records are asked for
/// together.
///
/// ```
/// let _mesh = meshwork::Mesh::builder().resolver(meshwork::dns::HickoryResolver::default());
/// ```
#[derive(Clone, Debug, Default)]
pub struct HickoryResolver {
    resolver: Arc<OnceCell<TokioResolver>>,
}

impl Resolve for HickoryResolver {
    fn resolve(&self, question: &Question) -> Resolution {
        let (cell, question) = (self.resolver.clone(), question.clone());
        Box::pin(async move {
            let resolver = cell.get_or_try_init(|| async { build() }).await?;
            match question {
                Question::Addresses(name) => addresses(resolver, &name).await,
                Question::Services(name) => services(resolver, &name).await,
            }
        })
    }
}

fn build() -> io::Result<TokioResolver> {
    let mut builder = Resolver::builder_tokio().map_err(failed)?;
    let options = builder.options_mut();
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build().map_err(failed)
}

async fn addresses(resolver: &TokioResolver, name: &str) -> io::Result<Answer> {
    let found = resolver.lookup_ip(name).await.map_err(failed)?;
    let records = found.as_lookup().answers();
    Ok(Answer {
        targets: found.iter().map(Target::from).collect(),
        ttl: records.iter().map(|record| record.ttl).min().map(seconds),
    })
}

/// The addresses of each host that the SRV records name. A host without an address is left out; if
/// none has one, that is the failure.
async fn services(resolver: &TokioResolver, name: &str) -> io::Result<Answer> {
    let found = resolver
        .lookup(name, RecordType::SRV)
        .await
        .map_err(failed)?;
    let mut answer = Answer::default();
    let mut failure = None;
    let records = found.answers().iter();
    for record in records.take(MAX_SERVICE_HOSTS) {
        let RData::SRV(service) = &record.data else {
            continue;
        };
        shorten(&mut answer.ttl, seconds(record.ttl));
        match addresses(resolver, &service.target.to_utf8()).await {
            Ok(host) => {
                if let Some(ttl) = host.ttl {
                    shorten(&mut answer.ttl, ttl);
                }
                let of = |target: Target| target_of(target.address, service);
                answer.targets.extend(host.targets.into_iter().map(of));
            }
            Err(error) => failure = Some(error),
        }
    }
    match failure.filter(|_| answer.targets.is_empty()) {
        Some(failure) => Err(failure),
        None => Ok(answer),
    }
}

fn target_of(address: IpAddr, service: &hickory_resolver::proto::rr::rdata::SRV) -> Target {
    Target {
        priority: service.priority,
        address,
        port: Some(service.port),
        // RFC 2782's 0 is "hardly ever", which among others is what 1 is.
        weight: NonZeroU32::new(service.weight.into()).unwrap_or(NonZeroU32::MIN),
    }
}

fn shorten(ttl: &mut Option<Duration>, other: Duration) {
    *ttl = Some(ttl.map_or(other, |ttl| ttl.min(other)));
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(ttl.into())
}

fn failed(error: NetError) -> io::Error {
    io::Error::other(error)
}
