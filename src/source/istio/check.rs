//! Everything that is wrong with a folder, without starting anything.
//!
//! A mesh that starts reads a folder and compiles it for its own workload; this does the same and
//! throws the model away. Somebody who checks files before they are deployed often does not know
//! whose eyes they will be seen with, and some faults (a host that is claimed twice, a rule that a
//! namespace does not see) show only to certain clients. So without a client the folder is looked at
//! once from each of its own namespaces, which finds what any of its workloads would be told.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::Options;
use super::compile::{compile, survey};
use super::fault::Faults;
use super::folder::read_dir;
use super::kinds::{Kind, Object};
use crate::workload::Workload;

/// From how many namespaces a folder is looked at; each costs one compilation.
const NAMESPACES: usize = 100;

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// How many objects and xDS resources were read: those without faults of their own.
    pub objects: usize,
    /// All faults, those that concern one object and those between objects.
    pub faults: Faults,
}

/// Finds all that is wrong with a folder (or a file) of YAML, as [`Istio::start`](super::Istio) would
/// find it for each of these clients.
///
/// The set as a whole is looked at too: selectors that select nobody, identities that nobody has, connections that
/// one side refuses. Without clients it is looked at from every namespace that its objects are in (the first 100 by
/// name), as a workload with the service account `default` and no labels. It blocks; call it from
/// `tokio::task::spawn_blocking` in async code. Nothing is logged.
///
/// ```
/// use meshwork::source::istio::{Options, check};
///
/// let checked = check("no/such/folder", &[], &Options::default());
/// assert!(checked.faults.has_errors());
/// ```
#[must_use]
pub fn check(path: impl AsRef<Path>, clients: &[Workload], options: &Options) -> Checked {
    let read = read_dir(path, options);
    let mut faults = read.faults;
    let everybody;
    let clients = if clients.is_empty() {
        everybody = namespaces(read.objects.iter());
        &everybody
    } else {
        clients
    };
    let mut found = seen_by(&read.objects, clients, options);
    found.show(&read.sources);
    faults.extend(found);
    let mut whole = survey(&read.objects, options);
    whole.show(&read.sources);
    faults.extend(whole);
    #[cfg(feature = "control-plane")]
    let raw: usize = read.raw.iter().map(|file| file.resources.len()).sum();
    #[cfg(not(feature = "control-plane"))]
    let raw = 0;
    Checked {
        objects: read.objects.len() + raw,
        faults,
    }
}

/// What objects are to each other, judged as [`check`] judges them: seen from each namespace that says how
/// requests are treated, and from one of those that only have services and workloads, whose views differ in
/// nothing that could be wrong. The faults say no lines.
#[cfg(feature = "control-plane")]
pub(crate) fn judge(objects: &[Object], options: &Options) -> Faults {
    let (deciding, plain): (Vec<_>, Vec<_>) = objects.iter().partition(|object| decides(object));
    let mut clients = namespaces(deciding.iter().copied());
    let seen: BTreeSet<_> = clients
        .iter()
        .map(|one| one.namespace().to_owned())
        .collect();
    let other = namespaces(plain.into_iter())
        .into_iter()
        .find(|client| !seen.contains(client.namespace()));
    clients.truncate(NAMESPACES - 1);
    clients.extend(other);
    seen_by(objects, &clients, options)
}

/// What these clients would be told, looked at on all processors and told in the order of the clients.
fn seen_by(objects: &[Object], clients: &[Workload], options: &Options) -> Faults {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let look = &|clients: &[Workload]| {
        let mut faults = Faults::default();
        for client in clients {
            faults.extend(compile(objects, client, options).faults);
        }
        faults
    };
    let mut faults = Faults::default();
    std::thread::scope(|scope| {
        let parts = clients.chunks(clients.len().div_ceil(threads).max(1));
        let parts: Vec<_> = parts.map(|part| scope.spawn(move || look(part))).collect();
        for part in parts {
            match part.join() {
                Ok(found) => faults.extend(found),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    faults
}

/// Whether sets differ in nothing that [`judge`] could find wrong: in who is there at most, which changes all the
/// time, and where it was written. Of endpoints and workloads a view is warned (a service that has none), and a
/// warning refuses no edit; whose namespace or service it is decides what is seen.
#[cfg(feature = "control-plane")]
pub(crate) fn alike(one: &[Object], other: &[Object]) -> bool {
    fn matter(objects: &[Object]) -> impl Iterator<Item = (&Kind, &super::kinds::Meta)> {
        let who = |object: &&Object| {
            !matches!(
                object.kind,
                Kind::EndpointSlice(_)
                    | Kind::Endpoints(_)
                    | Kind::Pod(_)
                    | Kind::ServiceAccount(_)
                    | Kind::Workload(_)
                    | Kind::WorkloadEntry(_)
                    | Kind::WorkloadGroup(_)
            )
        };
        let objects = objects.iter().filter(who);
        objects.map(|object| (&object.kind, &object.meta))
    }
    matter(one).eq(matter(other))
}

/// Whether an object says how requests are treated, and not only who is there.
#[cfg(feature = "control-plane")]
fn decides(object: &Object) -> bool {
    match &object.kind {
        Kind::EndpointSlice(_)
        | Kind::Endpoints(_)
        | Kind::Namespace(_)
        | Kind::Pod(_)
        | Kind::Service(_)
        | Kind::ServiceAccount(_)
        | Kind::Workload(_)
        | Kind::WorkloadEntry(_)
        | Kind::WorkloadGroup(_) => false,
        Kind::AuthorizationPolicy(_)
        | Kind::BackendTlsPolicy(_)
        | Kind::BackendTrafficPolicy(_)
        | Kind::DestinationRule(_)
        | Kind::Gateway(_)
        | Kind::GrpcRoute(_)
        | Kind::HttpLocalRateLimitPolicy(_)
        | Kind::HttpRoute(_)
        | Kind::LinkerdServer(_)
        | Kind::MeshConfig(_)
        | Kind::PeerAuthentication(_)
        | Kind::ReferenceGrant(_)
        | Kind::RequestAuthentication(_)
        | Kind::ServiceEntry(_)
        | Kind::Sidecar(_)
        | Kind::Telemetry(_)
        | Kind::VirtualService(_) => true,
    }
}

/// One client for each namespace; without any there is still one, since faults may be global.
fn namespaces<'a>(objects: impl Iterator<Item = &'a Object>) -> Vec<Workload> {
    let namespace = |object: &Object| match &object.kind {
        Kind::Namespace(_) => Arc::clone(&object.meta.name),
        Kind::AuthorizationPolicy(_)
        | Kind::DestinationRule(_)
        | Kind::EndpointSlice(_)
        | Kind::Endpoints(_)
        | Kind::MeshConfig(_)
        | Kind::PeerAuthentication(_)
        | Kind::Pod(_)
        | Kind::RequestAuthentication(_)
        | Kind::Service(_)
        | Kind::ServiceAccount(_)
        | Kind::ServiceEntry(_)
        | Kind::Gateway(_)
        | Kind::Sidecar(_)
        | Kind::Telemetry(_)
        | Kind::VirtualService(_)
        | Kind::Workload(_)
        | Kind::GrpcRoute(_)
        | Kind::HttpRoute(_)
        | Kind::BackendTlsPolicy(_)
        | Kind::BackendTrafficPolicy(_)
        | Kind::HttpLocalRateLimitPolicy(_)
        | Kind::LinkerdServer(_)
        | Kind::ReferenceGrant(_)
        | Kind::WorkloadEntry(_)
        | Kind::WorkloadGroup(_) => Arc::clone(&object.meta.namespace),
    };
    // The mesh configuration belongs to no namespace.
    let mut names: BTreeSet<Arc<str>> = objects
        .map(namespace)
        .filter(|name| !name.is_empty())
        .collect();
    if names.is_empty() {
        names.insert("default".into());
    }
    names
        .into_iter()
        .take(NAMESPACES)
        .map(|name| Workload::new(name, "default"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "control-plane")]
    use crate::source::istio::read;
    use crate::source::istio::{Code, Fault};

    const TWO_CLAIMS: &str = "
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: one, namespace: shop}
spec:
  hosts: [catalog]
  exportTo: ['.']
  http: [{route: [{destination: {host: catalog, subset: nine}}]}]
---
apiVersion: v1
kind: Service
metadata: {name: order, namespace: other}
spec: {ports: [{name: http, port: 80}]}
";

    fn codes(clients: &[Workload]) -> Vec<Code> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("a.yaml"), TWO_CLAIMS).expect("a file");
        let checked = check(folder.path(), clients, &Options::default());
        assert_eq!(checked.objects, 3);
        let mut faults = checked.faults.iter();
        assert!(faults.all(|fault| fault.snippet().is_some()));
        checked.faults.iter().map(Fault::code).collect()
    }

    #[test]
    fn a_fault_that_only_one_namespace_sees_is_found_without_naming_it() {
        assert!(codes(&[]).contains(&Code::NotFound));
        let shop = Workload::new("shop", "shop-sa");
        assert!(codes(&[shop]).contains(&Code::NotFound));
        let other = Workload::new("other", "order-sa");
        assert!(!codes(&[other]).contains(&Code::NotFound));
    }

    #[cfg(feature = "control-plane")]
    #[test]
    fn sets_that_differ_in_who_is_there_are_alike_and_others_are_not() {
        const WHO: [&str; 6] = [
            "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: catalog-1, namespace: shop, labels: {kubernetes.io/service-name: catalog}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.1]}]",
            "apiVersion: v1
kind: Pod
metadata: {name: catalog-1, namespace: shop}
spec: {containers: [{name: main}]}",
            "apiVersion: v1
kind: ServiceAccount
metadata: {name: catalog, namespace: shop}",
            "apiVersion: apps/v1
kind: Deployment
metadata: {name: catalog, namespace: shop}
spec: {template: {metadata: {labels: {app: catalog}}, spec: {containers: [{name: main}]}}}",
            "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: machine, namespace: shop}
spec: {address: 10.0.0.2, labels: {app: catalog}}",
            "apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: machines, namespace: shop}
spec: {template: {serviceAccount: catalog}}",
        ];
        let set = |text: &str| {
            let read = read([("a.yaml", text)], &Options::default());
            assert!(!read.faults.has_errors(), "{}", read.faults);
            read.objects
        };
        let plain = set(TWO_CLAIMS);
        let moved = set(&format!("# one line more\n{TWO_CLAIMS}"));
        let edited = set(&TWO_CLAIMS.replace("subset: nine", "subset: ten"));
        let named = set(&TWO_CLAIMS.replace("name: order", "name: cart"));
        assert!(alike(&plain, &plain) && alike(&plain, &moved));
        for one in WHO {
            let who = set(&format!("{TWO_CLAIMS}---\n{one}\n"));
            assert!(who.len() > plain.len() && alike(&plain, &who), "{one}");
        }
        let placed = set(&format!(
            "{TWO_CLAIMS}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: empty}}\n"
        ));
        assert!(!alike(&plain, &placed));
        assert!(!alike(&plain, &edited) && !alike(&plain, &named) && !alike(&plain, &[]));
    }
}
