//! How the connections of a cluster are secured.
//!
//! What a DestinationRule says counts. Where it says nothing, mutual TLS is automatic (Istio's auto
//! mTLS): with every endpoint that is known to speak it, which the label
//! `security.istio.io/tlsMode: istio` of its workload tells, or the service account of a
//! `WorkloadEntry`, unless a PeerAuthentication turns it off there.

use std::path::Path;
use std::sync::Arc;

use super::Part;
use crate::model::matcher::StringMatcher;
use crate::model::security::{
    Alpn, ClientTls, Files, Material, MutualTls, Security, Sni, Verification,
};
use crate::source::istio::kinds::{self, Kind, Location, TlsMode};
use crate::source::istio::registry::Member;

/// The label by which a workload says that it takes mutual TLS.
const TLS_MODE: &str = "security.istio.io/tlsMode";

/// Whether a member takes mutual TLS.
pub(super) fn is_meshed(part: &Part<'_, '_>, member: &Member) -> bool {
    let external = matches!(
        &part.service.object.kind,
        Kind::ServiceEntry(entry) if entry.location == Location::MeshExternal
    );
    let says = member
        .labels
        .get(TLS_MODE)
        .is_some_and(|mode| &**mode == "istio");
    if external || !(says || member.is_machine && member.account.is_some()) {
        return false;
    }
    let policy = part.scope.peers.policy(&member.namespace, &member.labels);
    let port = match &member.address {
        crate::model::endpoint::Address::Several(addresses) => addresses.first().port(),
        crate::model::endpoint::Address::Socket(address) => address.port(),
        crate::model::endpoint::Address::Name { port, .. } => *port,
        crate::model::endpoint::Address::Unix(_) => 0,
    };
    policy.on(port) != MutualTls::Disable
}

/// How the connections of a part of a service are secured. `tls` is the block that is in force.
pub(super) fn security(
    part: &Part<'_, '_>,
    members: &[&Member],
    tls: Option<&kinds::ClientTls>,
) -> Security {
    let Some(tls) = tls else {
        let automatic = part.scope.defaults.auto_mtls();
        let meshed = members.iter().any(|member| is_meshed(part, member));
        return match automatic && meshed {
            true => Security::Automatic(Arc::new(of_mesh(part, members, &[], None))),
            false => Security::Plaintext,
        };
    };
    let sni = tls.sni.as_deref().filter(|sni| !sni.is_empty());
    match tls.mode {
        TlsMode::Disable => Security::Plaintext,
        TlsMode::IstioMutual => {
            let tls = of_mesh(part, members, &tls.subject_alt_names, sni);
            Security::Tls(Arc::new(tls))
        }
        TlsMode::Mutual | TlsMode::Simple => Security::Tls(Arc::new(of_files(part, tls, sni))),
    }
}

/// Mutual TLS with the identity of the mesh.
fn of_mesh(
    part: &Part<'_, '_>,
    members: &[&Member],
    names: &[String],
    sni: Option<&str>,
) -> ClientTls {
    let names = match names {
        [] => accounts(part, members),
        names => exact(names),
    };
    let sni = sni.map_or_else(
        || {
            let Part {
                service,
                port,
                subset,
                ..
            } = part;
            format!("outbound_.{}_.{subset}_.{}", port.number, service.host).into()
        },
        Into::into,
    );
    ClientTls {
        identity: Some(Material::Mesh),
        trust: Material::Mesh,
        verification: Verification::Svid,
        names,
        sni: Sni::Name(sni),
        alpn: Alpn::Istio,
    }
}

fn exact(names: &[impl AsRef<str>]) -> Vec<StringMatcher> {
    let exact = |name: &_| StringMatcher::Exact(AsRef::<str>::as_ref(name).into());
    names.iter().map(exact).collect()
}

/// The identities of those who serve: what the ServiceEntry names, else the service accounts of the
/// members. If that of any is unknown, whoever has an identity of the mesh may serve.
fn accounts(part: &Part<'_, '_>, members: &[&Member]) -> Vec<StringMatcher> {
    let named = named_by_entry(part);
    if !named.is_empty() {
        return named;
    }
    let meshed = members.iter().filter(|member| is_meshed(part, member));
    let known: Option<Vec<&Arc<str>>> = meshed.map(|member| member.account.as_ref()).collect();
    let mut known = known.unwrap_or_default();
    known.sort_unstable();
    known.dedup();
    let of_domains = |account: &Arc<str>| {
        let domains = part.scope.defaults.trust_domains();
        domains
            .map(|domain| format!("spiffe://{domain}/{account}"))
            .collect::<Vec<_>>()
    };
    let ids: Vec<String> = known.into_iter().flat_map(of_domains).collect();
    exact(&ids)
}

fn named_by_entry(part: &Part<'_, '_>) -> Vec<StringMatcher> {
    match &part.service.object.kind {
        Kind::ServiceEntry(entry) => {
            let names = entry.subject_alt_names.iter();
            names
                .map(|name| StringMatcher::Exact(name.as_str().into()))
                .collect()
        }
        _other_kinds => Vec::new(),
    }
}

/// TLS with certificates from files or of a credential that the program knows by its name, or with
/// none.
fn of_files(part: &Part<'_, '_>, tls: &kinds::ClientTls, sni: Option<&str>) -> ClientTls {
    let path = |text: &Option<String>| text.as_deref().map(|text| Arc::from(Path::new(text)));
    let credential = tls.credential_name.as_deref();
    let credential = credential.map(|name| Material::Named(name.into()));
    let roots = path(&tls.ca_certificates);
    let trust = match (&roots, &credential) {
        (Some(_), _) => Material::Files(Files {
            roots,
            revocations: path(&tls.ca_crl),
            ..Files::default()
        }),
        (None, Some(credential)) => credential.clone(),
        (None, None) => Material::System,
    };
    let own = credential.unwrap_or_else(|| {
        Material::Files(Files {
            certificate: path(&tls.client_certificate),
            key: path(&tls.private_key),
            ..Files::default()
        })
    });
    let names = match &*tls.subject_alt_names {
        [] => named_by_entry(part),
        names => exact(names),
    };
    let host = &part.service.host;
    ClientTls {
        identity: (tls.mode == TlsMode::Mutual).then_some(own),
        trust,
        verification: match tls.insecure_skip_verify {
            Some(true) => Verification::Nothing,
            Some(false) | None => Verification::Name,
        },
        names,
        sni: match sni {
            Some(sni) => Sni::Name(sni.into()),
            None if host.starts_with('*') => Sni::Endpoint,
            None => Sni::Name(host.clone()),
        },
        alpn: Alpn::Http,
    }
}
