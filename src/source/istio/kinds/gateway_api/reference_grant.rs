//! `ReferenceGrant`: leave for routes of other namespaces to send requests here.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::source::istio::yaml::Located;

/// Which objects of other namespaces may refer to which objects of this one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ReferenceGrantSpec {
    /// Who may refer.
    pub from: Vec<Located<ReferenceGrantFrom>>,
    /// To what.
    pub to: Vec<Located<ReferenceGrantTo>>,
}

/// Objects of one kind in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ReferenceGrantFrom {
    /// Their API group, `gateway.networking.k8s.io` for routes.
    pub group: String,
    /// Their kind, such as `HTTPRoute`.
    pub kind: String,
    /// Their namespace.
    pub namespace: String,
}

/// Objects of one kind in the namespace of the grant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ReferenceGrantTo {
    /// Their API group; `""` for Services.
    pub group: String,
    /// Their kind, such as `Service`.
    pub kind: String,
    /// The name of one of them; absent means all.
    pub name: Option<String>,
}
