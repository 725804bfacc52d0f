//! Which other protocols a request may turn its connection into.

/// The protocols that requests of a route may switch to (Envoy's `upgrade_configs` of the listener
/// and of the route taken together).
///
/// An upgrade is a request with `Connection: upgrade` and `Upgrade` (RFC 9110 §7.8), or an extended
/// CONNECT (RFC 8441). The default allows `websocket`, because Istio's listeners do.
///
/// ```
/// use meshwork::model::upgrade::Upgrades;
///
/// let upgrades = Upgrades::default();
/// assert!(upgrades.allows("WebSocket") && !upgrades.allows("spdy/3.1"));
/// assert!(Upgrades::of(["spdy/3.1"]).allows("SPDY/3.1"));
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Upgrades {
    /// In lower case, sorted, each once.
    allowed: Vec<Box<str>>,
}

impl Upgrades {
    /// None at all.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            allowed: Vec::new(),
        }
    }

    /// These, by the names that stand in the `Upgrade` header; upper and lower case are the same.
    #[must_use]
    pub fn of<'a>(protocols: impl IntoIterator<Item = &'a str>) -> Self {
        let mut allowed: Vec<Box<str>> = protocols
            .into_iter()
            .map(|name| name.to_ascii_lowercase().into())
            .collect();
        allowed.sort_unstable();
        allowed.dedup();
        Self { allowed }
    }

    /// Whether a request may switch to `protocol`.
    #[must_use]
    pub fn allows(&self, protocol: &str) -> bool {
        self.allowed
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(protocol))
    }

    /// The names, in lower case and sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.allowed.iter().map(|name| &**name)
    }
}

impl Default for Upgrades {
    fn default() -> Self {
        Self::of(["websocket"])
    }
}
