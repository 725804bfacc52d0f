//! Hickory: a resolver that tells TTLs and knows SRV.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, ResolverBuilder, TokioResolver};
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
    without_cache(Resolver::builder_tokio().map_err(failed)?)
}

fn without_cache(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> io::Result<TokioResolver> {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
    use hickory_resolver::proto::rr::{Name, Record};
    use tokio::net::UdpSocket;

    use super::*;

    /// What the server of the tests knows.
    fn zone(name: &str, kind: RecordType) -> Vec<(u32, RData)> {
        let host = || Name::from_ascii("db.mesh.test.").unwrap();
        match (name, kind) {
            ("db.mesh.test.", RecordType::A) => vec![
                (30, RData::A(A::new(10, 0, 0, 1))),
                (20, RData::A(A::new(10, 0, 0, 2))),
            ],
            ("db.mesh.test.", RecordType::AAAA) => {
                vec![(90, RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)))]
            }
            ("_grpc._tcp.mesh.test.", RecordType::SRV) => {
                vec![(7, RData::SRV(SRV::new(5, 0, 8080, host())))]
            }
            _ => Vec::new(),
        }
    }

    /// A name server on a socket, and a resolver that asks it, with a search domain.
    async fn served() -> (HickoryResolver, Arc<AtomicUsize>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                count.fetch_add(1, Ordering::SeqCst);
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let question = query.queries[0].clone();
                let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
                let name = question.name().to_ascii().to_ascii_lowercase();
                for (ttl, data) in zone(&name, question.query_type()) {
                    answer.add_answer(Record::from_rdata(question.name().clone(), ttl, data));
                }
                if answer.answers.is_empty() {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                answer.add_query(question);
                socket
                    .send_to(&answer.to_vec().unwrap(), from)
                    .await
                    .unwrap();
            }
        });
        let mut connection = ConnectionConfig::udp();
        connection.port = address.port();
        let server = NameServerConfig::new(address.ip(), true, vec![connection]);
        let search = vec![Name::from_ascii("mesh.test.").unwrap()];
        let config = ResolverConfig::from_parts(None, search, vec![server]);
        let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        let cell = OnceCell::new_with(Some(without_cache(builder).unwrap()));
        let resolver = HickoryResolver {
            resolver: Arc::new(cell),
        };
        (resolver, asked)
    }

    #[tokio::test]
    async fn a_and_aaaa_come_with_the_shortest_ttl_and_nothing_is_cached() {
        let (resolver, asked) = served().await;
        for round in 1..=2 {
            let answer = resolver
                .resolve(&Question::of("db.mesh.test."))
                .await
                .unwrap();
            let mut addresses: Vec<_> = answer
                .targets
                .iter()
                .map(|target| target.address.to_string())
                .collect();
            addresses.sort();
            assert_eq!(addresses, ["10.0.0.1", "10.0.0.2", "fd00::1"]);
            assert_eq!(answer.ttl, Some(Duration::from_secs(20)));
            assert_eq!(asked.load(Ordering::SeqCst), 2 * round);
        }
    }

    #[tokio::test]
    async fn i1_a_short_name_is_found_in_the_search_domain() {
        let (resolver, _asked) = served().await;
        let answer = resolver.resolve(&Question::of("db")).await.unwrap();
        assert_eq!(answer.targets.len(), 3);
    }

    #[tokio::test]
    async fn srv_has_ports_and_priorities_for_each_address() {
        let (resolver, _asked) = served().await;
        let question = Question::of("_grpc._tcp.mesh.test.");
        let answer = resolver.resolve(&question).await.unwrap();
        assert_eq!(answer.ttl, Some(Duration::from_secs(7)));
        assert_eq!(answer.targets.len(), 3);
        for target in answer.targets {
            assert_eq!(
                (target.priority, target.port, target.weight.get()),
                (5, Some(8080), 1)
            );
        }
    }

    #[tokio::test]
    async fn i1_a_name_that_does_not_exist_is_a_failure() {
        let (resolver, _asked) = served().await;
        let error = resolver
            .resolve(&Question::of("gone.mesh.test."))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("gone.mesh.test"), "{error}");
    }
}
