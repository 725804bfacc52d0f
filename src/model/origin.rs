use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Where a value comes from: file, line and object, or a control plane, a version and a resource.
///
/// Two values that differ only in their origin are equal: `Origin` compares equal to every other
/// `Origin` and hashes to nothing, so it never decides whether something changed.
///
/// ```
/// use meshwork::model::Origin;
///
/// let here = Origin::file("mesh/catalog.yaml", 12, "virtualservice my-app/catalog");
/// assert_eq!(here, Origin::built_in());
/// assert_eq!(here.to_string(), "mesh/catalog.yaml:12 (virtualservice my-app/catalog)");
/// ```
#[derive(Clone)]
pub struct Origin {
    place: Place,
}

#[derive(Clone)]
enum Place {
    BuiltIn,
    ControlPlane {
        server: Arc<str>,
        version: Arc<str>,
        resource: Arc<str>,
    },
    File {
        file: Arc<str>,
        line: u32,
        object: Arc<str>,
    },
}

impl Origin {
    /// A default of the mesh: nobody wrote it.
    #[must_use]
    pub const fn built_in() -> Self {
        Self {
            place: Place::BuiltIn,
        }
    }

    /// A place in a file; `line` counts from 1, `object` is `kind namespace/name`.
    #[must_use]
    pub fn file(file: impl Into<Arc<str>>, line: u32, object: impl Into<Arc<str>>) -> Self {
        Self {
            place: Place::File {
                file: file.into(),
                line,
                object: object.into(),
            },
        }
    }

    /// A resource of a control plane: the server's URI, the version that it came in, and
    /// `kind name`.
    ///
    /// ```
    /// use meshwork::model::Origin;
    ///
    /// let there = Origin::control_plane("istiod:15010", "42", "cluster catalog");
    /// assert_eq!(there.to_string(), "istiod:15010 at version 42 (cluster catalog)");
    /// ```
    #[must_use]
    pub fn control_plane(
        server: impl Into<Arc<str>>,
        version: impl Into<Arc<str>>,
        resource: impl Into<Arc<str>>,
    ) -> Self {
        Self {
            place: Place::ControlPlane {
                server: server.into(),
                version: version.into(),
                resource: resource.into(),
            },
        }
    }

    /// The same file and object at another line; what is in no file stays as it is.
    #[must_use]
    pub fn at_line(&self, line: u32) -> Self {
        match &self.place {
            Place::BuiltIn | Place::ControlPlane { .. } => self.clone(),
            Place::File { file, object, .. } => Self::file(file.clone(), line, object.clone()),
        }
    }

    /// The object (`kind namespace/name`) or the resource (`kind name`), if somebody wrote one.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        match &self.place {
            Place::BuiltIn => None,
            Place::ControlPlane { resource, .. } => Some(resource),
            Place::File { object, .. } => Some(object),
        }
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self::built_in()
    }
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

impl Hash for Origin {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::BuiltIn => f.write_str("built in"),
            Place::ControlPlane {
                server,
                version,
                resource,
            } => write!(f, "{server} at version {version} ({resource})"),
            Place::File { file, line, object } => write!(f, "{file}:{line} ({object})"),
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}
