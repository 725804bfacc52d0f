//! What a caller may write to name whom it wants to talk to.

use std::fmt;
use std::sync::Arc;

use http::uri::Authority;

use crate::error::Error;

/// The target of a channel.
///
/// | written | means |
/// | --- | --- |
/// | `catalog.my-app.svc.cluster.local` | the service's sole port, else 80 |
/// | `catalog.my-app.svc.cluster.local:8080` | that service port |
/// | `catalog` | the short names that the workload's namespace allows |
/// | `xds:///name` | the listener of this name, verbatim |
/// | `xds://authority/name` | the listener of this name at that authority of the bootstrap |
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Target {
    /// A host of the mesh and perhaps a service port.
    Host {
        /// In lower case, without a port.
        host: Box<str>,
        port: Option<u16>,
        /// What requests without an authority get.
        authority: Authority,
    },
    /// A listener by name.
    Listener {
        name: Arc<str>,
        authority: Authority,
    },
}

/// What a channel's target asks a control plane for, before names have been made of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Question {
    /// The authority of the bootstrap that is asked (gRFC A47); `None`: the one without a name.
    pub(crate) of: Option<Box<str>>,
    /// What stands in the listener's name.
    pub(crate) name: Box<str>,
    /// What requests without an authority get, and what virtual hosts are found by.
    pub(crate) authority: Authority,
}

impl Question {
    /// Reads a target.
    ///
    /// # Errors
    /// As [`Target::parse`].
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if let Some(rest) = text.strip_prefix("xds://")
            && let Some((of, name)) = rest.split_once('/')
            && !of.is_empty()
            && !name.is_empty()
        {
            return Ok(Self {
                of: Some(of.into()),
                authority: authority_of(name),
                name: name.into(),
            });
        }
        let (name, authority) = match Target::parse(text)? {
            Target::Listener { name, authority } => (name, authority),
            Target::Host {
                port, authority, ..
            } => match Target::listener(&authority, port.unwrap_or(80))? {
                Target::Listener { name, authority } => (name, authority),
                Target::Host { authority, .. } => (authority.as_str().into(), authority),
            },
        };
        Ok(Self {
            of: None,
            name: (&*name).into(),
            authority,
        })
    }
}

/// A listener may have any name; only one that is an authority can be sent as such.
fn authority_of(listener: &str) -> Authority {
    let end = listener.rsplit('/').next().unwrap_or(listener);
    end.parse()
        .unwrap_or_else(|_| Authority::from_static("xds"))
}

impl Target {
    /// Reads a target.
    ///
    /// # Errors
    /// If it is empty, has a scheme other than `xds`, a path, user information or a wrong port.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |why: &str| {
            Error::config(format!(
                "target {text:?}: {why}; allowed are \"host\", \"host:port\" and \"xds:///listener\""
            ))
        };
        if let Some(name) = text.strip_prefix("xds:///") {
            if name.is_empty() {
                return Err(refuse("the listener's name is missing"));
            }
            return Ok(Self::Listener {
                name: name.into(),
                authority: authority_of(name),
            });
        }
        if text.contains("//") || text.contains('/') {
            return Err(refuse("it is not a host"));
        }
        let authority: Authority = text
            .parse()
            .map_err(|_| refuse("it is not a host and port"))?;
        if text.contains('@') {
            return Err(refuse("user information is not allowed"));
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err(refuse("the host is missing"));
        }
        let port = match authority.port() {
            Some(port) if port.as_u16() != 0 => Some(port.as_u16()),
            Some(_) => return Err(refuse("port 0 cannot be called")),
            // `host:` and `host:99999` parse as an authority without a port.
            None if text.len() != authority.host().len() => {
                return Err(refuse("the port is not a number from 1 to 65535"));
            }
            None => None,
        };
        Ok(Self::Host {
            host: host.into(),
            port,
            authority,
        })
    }

    /// The listener of a host and port, as istiod and gRPC call it.
    ///
    /// # Errors
    /// If they are no authority together.
    pub(crate) fn listener(host: &Authority, port: u16) -> Result<Self, Error> {
        let text = format!("{}:{port}", host.host().to_ascii_lowercase());
        let authority = text.parse();
        let authority: Authority =
            authority.map_err(|_| Error::config(format!("{text:?} is not a host and port")))?;
        Ok(Self::Listener {
            name: text.into(),
            authority,
        })
    }

    /// What a request without an authority is sent with.
    pub(crate) fn authority(&self) -> &Authority {
        match self {
            Self::Host { authority, .. } | Self::Listener { authority, .. } => authority,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { authority, .. } => f.write_str(authority.as_str()),
            Self::Listener { name, .. } => write!(f, "xds:///{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_written() {
        let host = |text| match Target::parse(text).unwrap() {
            Target::Host { host, port, .. } => (host.to_string(), port),
            Target::Listener { name, .. } => panic!("{name} is a listener"),
        };
        assert_eq!(host("Catalog.my-app"), ("catalog.my-app".into(), None));
        assert_eq!(host("catalog:8080"), ("catalog".into(), Some(8080)));
        assert_eq!(host("[::1]:80"), ("[::1]".into(), Some(80)));
        assert!(matches!(
            Target::parse("xds:///a/b:80").unwrap(),
            Target::Listener { name, authority } if &*name == "a/b:80" && authority == "b:80"
        ));
    }

    #[test]
    fn wrong_targets_say_what_is_allowed() {
        for (text, why) in [
            ("", "not a host and port"),
            ("http://catalog", "not a host"),
            ("catalog/items", "not a host"),
            ("user@catalog", "user information"),
            ("catalog:0", "port 0"),
            ("catalog:", "not a number from 1"),
            ("catalog:99999", "not a number from 1"),
            ("xds:///", "name is missing"),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.is_config());
            let text = error.to_string();
            assert!(text.contains(why) && text.contains("allowed are"), "{text}");
        }
    }
}
