//! How requests are sent on.

use std::collections::BTreeSet;
use std::time::Duration;

use http::uri::Authority;

use super::headers::Level;
use super::matches::escaped;
use super::owner::Names;
use super::place::{Place, Quoted};
use super::routes::Around;
use super::{Scope, affinity, filters, headers, policy, retry, value};
use crate::model::affinity::Affinity;
use crate::model::matcher::PathMatcher;
use crate::model::route::{Destination, Destinations, Forward, PathRewrite};
use crate::model::upgrade::Upgrades;
use crate::source::xds::extra::{HeaderOrder, RouteExtra};
use crate::source::xds::filters::{self as chain, Override, Overrides};
use crate::source::xds::proto::{matcher, route as wire};

/// What is known of the route around the action.
pub(super) struct Parts<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) around: &'a Around<'a>,
    pub(super) extra: &'a RouteExtra,
    /// What the route and everything around it say of filters.
    pub(super) overrides: &'a Overrides,
    /// The path that was matched, if that can be read.
    pub(super) matched: Option<&'a PathMatcher>,
}

/// A destination or all of them, with what each says of filters.
type With<T> = (T, Vec<Overrides>);

/// `Some(None)`: it picks its cluster in a way that is not here.
pub(super) fn forward(
    place: &Place<'_>,
    message: &wire::RouteAction,
    parts: &Parts<'_>,
) -> Option<Option<With<Forward>>> {
    let destinations = destinations(place, message, parts);
    let timeout = timeout(place, message);
    let idle_timeout = value::limit(&place.field("idle_timeout"), message.idle_timeout);
    let retry = retry::of_route(place, message, parts);
    let path_rewrite = path_rewrite(place, message, parts);
    let authority_rewrite = authority_rewrite(place, message);
    let endpoint_authority =
        parts.scope.context.trusted && (parts.extra.endpoint_authority || automatic(message));
    let mirrors_place = place.field("request_mirror_policies");
    let mirrors = match message.request_mirror_policies.is_empty() {
        true => parts.around.mirrors.clone(),
        false => policy::mirrors(&mirrors_place, &message.request_mirror_policies),
    };
    let hash = affinity::hash(&place.field("hash_policy"), &message.hash_policy);
    if message.retry_policy_typed_config.is_some() {
        return place
            .field("retry_policy_typed_config")
            .fault("is not supported; use \"retry_policy\"");
    }
    let Some((destinations, said)) = destinations? else {
        return Some(None);
    };
    let affinity = Affinity {
        hash: hash?,
        session: chain::alone(parts.overrides).session,
    };
    let forward = Forward {
        destinations,
        timeout: timeout?,
        idle_timeout: idle_timeout?,
        retry: retry?,
        path_rewrite: path_rewrite?,
        authority_rewrite: authority_rewrite?,
        endpoint_authority,
        mirrors,
        affinity,
        upgrades: upgrades(&message.upgrade_configs),
    };
    Some(Some((forward, said)))
}

/// Whether the action bounds the whole stream itself, so that its listener does not.
pub(super) fn is_bounded(message: &wire::RouteAction) -> bool {
    message.max_stream_duration.is_some_and(|bounds| {
        bounds.grpc_timeout_header_max.is_some() || bounds.max_stream_duration.is_some()
    })
}

/// What the route says, over what Istio's listeners say: a listener of a client says nothing.
fn upgrades(configs: &[wire::route_action::UpgradeConfig]) -> Upgrades {
    let standard = Upgrades::default();
    let mut allowed: BTreeSet<String> = standard.names().map(str::to_owned).collect();
    for config in configs {
        let name = config.upgrade_type.to_ascii_lowercase();
        match config.enabled.is_none_or(|enabled| enabled.value) {
            true => allowed.insert(name),
            false => allowed.remove(&name),
        };
    }
    Upgrades::of(allowed.iter().map(String::as_str))
}

/// The shortest of the response's timeout (Envoy's `timeout`) and the bound for the whole stream
/// (gRFC A31), where zero means none. That of the listener comes on top, see [`is_bounded`].
///
/// A route that says neither has no timeout, as in gRPC. Envoy would take 15 s, which ends streams
/// that a control plane for gRPC never meant to be bounded; istiod always sets the field.
fn timeout(place: &Place<'_>, message: &wire::RouteAction) -> Option<Option<Duration>> {
    let timeout = value::limit(&place.field("timeout"), message.timeout);
    let stream_place = place.field("max_stream_duration");
    let stream = match &message.max_stream_duration {
        None => Some(None),
        Some(bounds) => {
            let whole = bounds.max_stream_duration;
            let name = match bounds.grpc_timeout_header_max {
                Some(_) => "grpc_timeout_header_max",
                None => "max_stream_duration",
            };
            let bound = bounds.grpc_timeout_header_max.or(whole);
            value::limit(&stream_place.field(name), bound)
        }
    };
    Some(match (timeout?, stream?) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    })
}

fn destinations(
    place: &Place<'_>,
    message: &wire::RouteAction,
    parts: &Parts<'_>,
) -> Option<Option<With<Destinations>>> {
    use wire::route_action::ClusterSpecifier as Specifier;
    match &message.cluster_specifier {
        Some(Specifier::Cluster(name)) => {
            let name = value::filled(&place.field("cluster"), name)?;
            Some(Some((Destinations::single(name), Vec::new())))
        }
        Some(Specifier::WeightedClusters(weighted)) => {
            self::weighted(&place.field("weighted_clusters"), weighted, parts).map(Some)
        }
        Some(Specifier::ClusterSpecifierPlugin(name)) => {
            let mut plugins = parts.around.plugins.iter();
            let defined = plugins.any(|plugin| plugin_name(plugin) == name);
            match defined {
                true => Some(None),
                false => place.field("cluster_specifier_plugin").fault(format_args!(
                    "{} is none of cluster_specifier_plugins",
                    Quoted(name)
                )),
            }
        }
        Some(Specifier::InlineClusterSpecifierPlugin(plugin)) => {
            self::plugin(&place.field("inline_cluster_specifier_plugin"), plugin).map(|()| None)
        }
        Some(Specifier::ClusterHeader(_)) | None => Some(None),
    }
}

fn plugin_name(plugin: &wire::ClusterSpecifierPlugin) -> &str {
    let extension = plugin.extension.as_ref();
    extension.map_or("", |extension| &extension.name)
}

/// Plugins that pick clusters: none is known here. Routes of optional ones are skipped; the others are
/// not, since their requests would go where a later route sends them.
pub(super) fn plugin(place: &Place<'_>, message: &wire::ClusterSpecifierPlugin) -> Option<()> {
    if message.is_optional {
        return Some(());
    }
    let extension = message.extension.as_ref();
    let config = extension.and_then(|extension| extension.typed_config.as_ref());
    place.field("extension.typed_config").fault(format_args!(
        "{} is no cluster specifier plugin that is known here, and none is; mark it as optional, or \
         leave it out",
        Quoted(config.map_or("", value::type_name))
    ))
}

fn weighted(
    place: &Place<'_>,
    message: &wire::WeightedCluster,
    parts: &Parts<'_>,
) -> Option<With<Destinations>> {
    if message.random_value_specifier.is_some() {
        return place.fault(
            "draws by a header or a hash, which is not supported; leave random_value_specifier out",
        );
    }
    let clusters = place.field("clusters");
    let none = HeaderOrder::default();
    let names = Names::of(message.clusters.iter().map(|cluster| &*cluster.name));
    let all: Vec<Option<(Destination, Overrides)>> = message
        .clusters
        .iter()
        .enumerate()
        .map(|(index, cluster)| {
            let order = parts.extra.destinations.get(index).unwrap_or(&none);
            let owner = names.owner(&parts.scope.owner, index, &cluster.name);
            let scope = parts.scope.owned(owner);
            destination(scope, parts, &clusters.index(index), cluster, order)
        })
        .collect();
    let all: Vec<(Destination, Overrides)> = all.into_iter().collect::<Option<_>>()?;
    // Those without weight are dropped from the destinations, and what they say with them.
    let said = all.iter().filter(|(one, _)| one.weight > 0);
    let said: Vec<Overrides> = said.map(|(_, said)| said.clone()).collect();
    let different = said.iter().any(|said| said != parts.overrides);
    match Destinations::weighted(all.into_iter().map(|(one, _)| one).collect()) {
        Some(destinations) if different => Some((destinations, said)),
        Some(destinations) => Some((destinations, Vec::new())),
        None => clusters.fault(format_args!(
            "have weights whose sum is 0 or above {0}; 1 to {0} is allowed",
            u32::MAX
        )),
    }
}

fn destination(
    scope: Scope<'_>,
    parts: &Parts<'_>,
    place: &Place<'_>,
    message: &wire::weighted_cluster::ClusterWeight,
    order: &HeaderOrder,
) -> Option<(Destination, Overrides)> {
    use wire::weighted_cluster::cluster_weight::HostRewriteSpecifier;
    if !message.cluster_header.is_empty() {
        return place
            .field("cluster_header")
            .fault("is not supported; name the cluster");
    }
    let name = value::filled(&place.field("name"), &message.name);
    let filters_place = place.field("typed_per_filter_config");
    let own = filters::per_route(scope, &filters_place, &message.typed_per_filter_config);
    if own.values().any(|one| matches!(one, Override::Session(_))) {
        return filters_place.fault(
            "configures sessions for one cluster, which is not supported: a session decides about \
             the cluster; configure it for the route",
        );
    }
    let around = parts.overrides;
    let said = chain::over(around, own);
    let fault = chain::own_fault(
        chain::alone(around).fault.as_ref(),
        chain::alone(&said).fault,
    );
    let changes = headers::ordered(
        place,
        &Level {
            request_add: &message.request_headers_to_add,
            request_remove: &message.request_headers_to_remove,
            response_add: &message.response_headers_to_add,
            response_remove: &message.response_headers_to_remove,
        },
        &order.request,
        &order.response,
    );
    let authority_rewrite = match &message.host_rewrite_specifier {
        None => Some(None),
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            value::authority(&place.field("host_rewrite_literal"), host)
        }
    };
    let destination = Destination {
        cluster: name?.into(),
        weight: value::number_or(message.weight, 0),
        headers: changes?,
        authority_rewrite: authority_rewrite?,
        fault,
    };
    Some((destination, said))
}

fn authority_rewrite(place: &Place<'_>, message: &wire::RouteAction) -> Option<Option<Authority>> {
    use wire::route_action::HostRewriteSpecifier as Specifier;
    match &message.host_rewrite_specifier {
        None => Some(None),
        // See `automatic`.
        Some(Specifier::AutoHostRewrite(_)) => Some(None),
        Some(Specifier::HostRewriteLiteral(host) | Specifier::HostRewrite(host)) => {
            value::authority(&place.field("host_rewrite_literal"), host)
        }
        Some(Specifier::HostRewriteHeader(_)) => place
            .field("host_rewrite_header")
            .fault("is not supported; host_rewrite_literal is"),
        Some(Specifier::HostRewritePathRegex(_)) => place
            .field("host_rewrite_path_regex")
            .fault("is not supported; host_rewrite_literal is"),
    }
}

/// Whether endpoints say what the authority is. Envoy does so for whoever asks; here, as in gRPC (A81), it has
/// no effect unless the bootstrap trusts the server: an endpoint's name that a control plane makes up would
/// be what its peers, and who checks a certificate, take the call to be for.
fn automatic(message: &wire::RouteAction) -> bool {
    use wire::route_action::HostRewriteSpecifier as Specifier;
    match &message.host_rewrite_specifier {
        Some(Specifier::AutoHostRewrite(on)) => on.value,
        Some(
            Specifier::HostRewrite(_)
            | Specifier::HostRewriteHeader(_)
            | Specifier::HostRewriteLiteral(_)
            | Specifier::HostRewritePathRegex(_),
        )
        | None => false,
    }
}

fn path_rewrite(
    place: &Place<'_>,
    message: &wire::RouteAction,
    parts: &Parts<'_>,
) -> Option<Option<PathRewrite>> {
    if message.path_rewrite_policy.is_some() || !message.path_rewrite.is_empty() {
        return place.fault(
            "rewrites the path by path_rewrite or path_rewrite_policy, which is not supported; \
             prefix_rewrite and regex_rewrite are",
        );
    }
    match (&message.regex_rewrite, message.prefix_rewrite.as_str()) {
        (None, "") => Some(removed_prefix(parts)),
        (None, prefix) => Some(Some(prefix_rewrite(prefix, parts))),
        (Some(rewrite), "") => {
            regex_rewrite(&place.field("regex_rewrite"), rewrite, parts).map(Some)
        }
        (Some(_), _) => {
            place.fault("has both prefix_rewrite and regex_rewrite; one of them is allowed")
        }
    }
}

/// A prefix that is replaced by nothing, which only our own message can say.
pub(super) fn removed_prefix(parts: &Parts<'_>) -> Option<PathRewrite> {
    let from = parts.extra.removed_prefix.as_deref()?;
    Some(PathRewrite::Prefix {
        from: from.into(),
        to: "".into(),
    })
}

/// What was matched is replaced: the prefix, or the whole path if that was matched as a whole.
pub(super) fn prefix_rewrite(to: &str, parts: &Parts<'_>) -> PathRewrite {
    if let Some(from) = &parts.extra.rewritten_prefix {
        return PathRewrite::Prefix {
            from: from.as_str().into(),
            to: to.into(),
        };
    }
    match parts.matched {
        Some(
            PathMatcher::Prefix(from)
            | PathMatcher::PrefixIgnoreCase(from)
            | PathMatcher::SegmentPrefix(from),
        ) => PathRewrite::Prefix {
            from: from.clone(),
            to: to.into(),
        },
        Some(PathMatcher::Exact(_) | PathMatcher::ExactIgnoreCase(_) | PathMatcher::Regex(_))
        | None => PathRewrite::Full(to.into()),
    }
}

pub(super) fn regex_rewrite(
    place: &Place<'_>,
    message: &matcher::RegexMatchAndSubstitute,
    parts: &Parts<'_>,
) -> Option<PathRewrite> {
    let (pattern, to) = value::rewrite(place, message)?;
    if parts.extra.full_path {
        return Some(PathRewrite::Full(unescaped(&to).into()));
    }
    Some(PathRewrite::Regex { pattern, to })
}

/// A substitution that names no group, as the text that it stands for.
fn unescaped(substitution: &str) -> String {
    let mut text = String::with_capacity(substitution.len());
    let mut characters = substitution.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    text
}

/// The whole path as an expression, for rewrites of all of it.
pub(in crate::source::xds) fn whole_path() -> &'static str {
    "^.*$"
}

/// A prefix as an expression that takes it at the begin of a path.
pub(in crate::source::xds) fn prefix_pattern(prefix: &str) -> String {
    format!("^{}", escaped(prefix))
}
