//! Which connections of a cluster are encrypted, and by whom.

use std::sync::Arc;

use super::link::Environment;
use crate::model::security::{ClientTls, Security};
use crate::transport::Secure;

/// What secures connections of a cluster; `None`: nothing.
pub(super) fn secure(model: &Security, environment: &Environment) -> Option<Arc<dyn Secure>> {
    match model {
        Security::Plaintext => None,
        Security::Automatic(tls) => can_present(tls, environment).then(|| over(tls, environment)),
        Security::Tls(tls) => Some(over(tls, environment)),
    }
}

/// Whether connections to an endpoint are encrypted, if its cluster can.
pub(super) fn wanted(model: &Security, meshed: bool) -> bool {
    match model {
        Security::Plaintext => false,
        Security::Automatic(_) => meshed,
        Security::Tls(_) => true,
    }
}

#[cfg(feature = "tls-core")]
mod real {
    use std::io;

    use http::Version;

    use super::*;
    use crate::model::endpoint::Address;
    use crate::model::security::Material;
    use crate::tls::{Connector, Offer, Refusal};
    use crate::transport::{Connecting, Io, Unprepared};

    /// Mutual TLS is automatic only for who has an identity, or will have one: without it a client
    /// speaks the plaintext that every server in mode PERMISSIVE takes, as under istiod.
    pub(super) fn can_present(tls: &ClientTls, environment: &Environment) -> bool {
        match tls.identity {
            Some(Material::Files(_) | Material::Named(_)) => true,
            Some(Material::Mesh | Material::System) | None => {
                environment.materials.mesh().is_some()
            }
        }
    }

    pub(super) fn over(tls: &ClientTls, environment: &Environment) -> Arc<dyn Secure> {
        let materials = &environment.materials;
        let identity = tls.identity.as_ref().map(|own| materials.get(own));
        let trust = materials.get(&tls.trust);
        let connector = Connector::new(tls, identity, trust, materials.clock());
        Arc::new(Over(Arc::new(connector)))
    }

    #[derive(Debug)]
    struct Over(Arc<Connector>);

    impl Secure for Over {
        fn secure(&self, io: Io, address: &Address, version: Version) -> Connecting {
            let connector = self.0.clone();
            let host = match address {
                Address::Name { host, .. } => host.to_string(),
                Address::Several(addresses) => addresses.first().ip().to_string(),
                Address::Socket(address) => address.ip().to_string(),
                Address::Unix(_) => "localhost".to_owned(),
            };
            let offer = match version {
                Version::HTTP_2 => Offer::Http2,
                _ => Offer::Http1,
            };
            Box::pin(async move {
                let stream = connector.connect(io, &host, offer).await;
                Ok(Io::boxed(stream.map_err(whose)?))
            })
        }
    }

    /// Says so if it is this side that could not begin.
    fn whose(error: io::Error) -> io::Error {
        let refusal = error.get_ref().and_then(|inner| inner.downcast_ref());
        match refusal {
            Some(own @ (Refusal::NoIdentity | Refusal::IdentityExpired)) => {
                io::Error::new(error.kind(), Unprepared::new(own.to_string()))
            }
            Some(_) | None => error,
        }
    }
}

#[cfg(not(feature = "tls-core"))]
mod real {
    use std::io;

    use http::Version;

    use super::*;
    use crate::model::endpoint::Address;
    use crate::transport::{Connecting, Io};

    pub(super) fn can_present(_: &ClientTls, _: &Environment) -> bool {
        false
    }

    pub(super) fn over(_: &ClientTls, _: &Environment) -> Arc<dyn Secure> {
        Arc::new(Missing)
    }

    /// A build without TLS connects to nobody who must be connected to by TLS.
    #[derive(Debug)]
    struct Missing;

    impl Secure for Missing {
        fn secure(&self, _: Io, _: &Address, _: Version) -> Connecting {
            let text = "the configuration demands TLS, and this program was built without the \
                        feature `tls` of meshwork";
            Box::pin(async move { Err(io::Error::new(io::ErrorKind::Unsupported, text)) })
        }
    }
}

use real::{can_present, over};
