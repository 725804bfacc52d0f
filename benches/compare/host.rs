//! Whom every call is for.

pub(crate) const HOST: &str = "catalog.my-app.svc.cluster.local";
