//! What is done with a request.

use http::StatusCode;
use http::uri::Authority;

use super::loss::Loss;
use super::{Pen, affinity, fault, headers, retry, value};
use crate::model::matcher::{PathMatcher, RouteMatcher};
use crate::model::route::{
    Destination, Destinations, DirectResponse, Forward, Mirror, OwnFault, PathRewrite, Redirect,
    RedirectPort,
};
use crate::model::upgrade::Upgrades;
use crate::source::xds::decode::{prefix_pattern, whole_path};
use crate::source::xds::extra::{self, HeaderOrder, RedirectPortSource, RouteExtra};
use crate::source::xds::proto::{BoolValue, core, fault as fault_wire, route as wire};

pub(super) fn forward(
    pen: &mut Pen<'_>,
    model: &Forward,
    matcher: &RouteMatcher,
    extra: &mut RouteExtra,
) -> wire::RouteAction {
    let Forward {
        destinations,
        timeout,
        idle_timeout,
        retry,
        path_rewrite,
        authority_rewrite,
        endpoint_authority,
        mirrors,
        affinity,
        upgrades,
    } = model;
    let mut message = wire::RouteAction {
        cluster_specifier: Some(self::destinations(pen, destinations, extra)),
        hash_policy: affinity::hash(pen, &affinity.hash),
        host_rewrite_specifier: host(pen, authority_rewrite.as_ref(), *endpoint_authority, extra),
        ..wire::RouteAction::default()
    };
    if let Some(policy) = retry {
        (message.retry_policy, message.hedge_policy) = retry::policy(pen, policy, extra);
    }
    if pen.is_grpc() {
        pen.lose_if(idle_timeout.is_some(), Loss::IdleTimeout);
        pen.lose_if(path_rewrite.is_some(), Loss::PathRewrite);
        pen.lose_if(!mirrors.is_empty(), Loss::Mirrors);
        // gRPC's name for the time of the whole (A31); zero is no limit, also over a listener's.
        message.max_stream_duration = Some(wire::route_action::MaxStreamDuration {
            max_stream_duration: Some(value::limit_or_zero(*timeout)),
            ..Default::default()
        });
        return message;
    }
    message.timeout = Some(value::limit_or_zero(*timeout));
    message.upgrade_configs = self::upgrades(upgrades);
    message.idle_timeout = Some(value::limit_or_zero(*idle_timeout));
    message.request_mirror_policies = mirrors.iter().map(mirror).collect();
    match path_rewrite
        .as_ref()
        .map(|model| rewrite(pen, model, matcher, extra))
    {
        None | Some(Rewrite::Lost) => {}
        Some(Rewrite::Prefix(to)) => message.prefix_rewrite = to,
        Some(Rewrite::Regex(pattern, to)) => {
            message.regex_rewrite = Some(value::rewrite(&pattern, &to));
        }
    }
    message
}

/// What is sent as the authority. The message has one place for two policies of the model: what stands there
/// for an endpoint without a name is lost to Envoy. gRPC knows names of endpoints only (A81).
fn host(
    pen: &mut Pen<'_>,
    literal: Option<&Authority>,
    endpoint: bool,
    extra: &mut RouteExtra,
) -> Option<wire::route_action::HostRewriteSpecifier> {
    use wire::route_action::HostRewriteSpecifier as Specifier;
    let automatic = Specifier::AutoHostRewrite(BoolValue { value: true });
    match (literal, endpoint) {
        (None, false) => None,
        (None, true) => Some(automatic),
        (Some(_), true) if !pen.is_meshwork() => {
            pen.lose(Loss::AuthorityRewrite);
            Some(automatic)
        }
        (Some(_), false) if pen.is_grpc() => {
            pen.lose(Loss::AuthorityRewrite);
            None
        }
        (Some(authority), _) => {
            extra.endpoint_authority = endpoint;
            Some(Specifier::HostRewriteLiteral(authority.to_string()))
        }
    }
}

/// What differs from what listeners allow, which is `websocket`.
fn upgrades(model: &Upgrades) -> Vec<wire::route_action::UpgradeConfig> {
    let standard = Upgrades::default();
    let config = |name: &str, enabled| wire::route_action::UpgradeConfig {
        upgrade_type: name.to_owned(),
        enabled: Some(value::flag(enabled)),
        connect_config: None,
    };
    let more = model.names().filter(|name| !standard.allows(name));
    let fewer = standard.names().filter(|name| !model.allows(name));
    more.map(|name| config(name, true))
        .chain(fewer.map(|name| config(name, false)))
        .collect()
}

/// A rewrite of the path as the messages have it.
enum Rewrite {
    Lost,
    Prefix(String),
    Regex(String, String),
}

fn rewrite(
    pen: &mut Pen<'_>,
    model: &PathRewrite,
    matcher: &RouteMatcher,
    extra: &mut RouteExtra,
) -> Rewrite {
    let matched = match &matcher.path {
        PathMatcher::Prefix(prefix)
        | PathMatcher::PrefixIgnoreCase(prefix)
        | PathMatcher::SegmentPrefix(prefix) => Some(prefix),
        PathMatcher::Exact(_) | PathMatcher::ExactIgnoreCase(_) | PathMatcher::Regex(_) => None,
    };
    // Segments that an expression matches for Envoy are matched as a whole.
    let prefix_is_matched = !matches!(&matcher.path, PathMatcher::SegmentPrefix(prefix)
        if !pen.is_meshwork() && (prefix.len() < 2 || prefix.ends_with('/')));
    match model {
        PathRewrite::Full(to) if matched.is_none() && !to.is_empty() => {
            Rewrite::Prefix(to.to_string())
        }
        PathRewrite::Full(to) => {
            extra.full_path = true;
            Rewrite::Regex(whole_path().to_owned(), to.replace('\\', r"\\"))
        }
        PathRewrite::Prefix { from, to }
            if matched == Some(from) && prefix_is_matched && !to.is_empty() =>
        {
            Rewrite::Prefix(to.to_string())
        }
        // The length counts, not the text, so only our own message says it exactly; an empty
        // replacement cannot be said by a field of which empty means "none".
        PathRewrite::Prefix { from, to } => {
            if pen.is_meshwork() && !to.is_empty() {
                extra.rewritten_prefix = Some(from.to_string());
                return Rewrite::Prefix(to.to_string());
            }
            if pen.is_meshwork() {
                extra.removed_prefix = Some(from.to_string());
                return Rewrite::Lost;
            }
            Rewrite::Regex(prefix_pattern(from), to.replace('\\', r"\\"))
        }
        PathRewrite::Regex { pattern, to } => {
            Rewrite::Regex(pattern.compiled().as_str().to_owned(), to.to_string())
        }
    }
}

fn destinations(
    pen: &mut Pen<'_>,
    model: &Destinations,
    extra: &mut RouteExtra,
) -> wire::route_action::ClusterSpecifier {
    use wire::route_action::ClusterSpecifier as Specifier;
    if let [only] = model.all()
        && *model == Destinations::single(only.cluster.clone())
    {
        return Specifier::Cluster(only.cluster.to_string());
    }
    let mut orders = Vec::new();
    let clusters = model.all().iter().map(|one| {
        let (message, order) = destination(pen, one);
        orders.push(order);
        message
    });
    let clusters = clusters.collect();
    if orders.iter().any(|order| *order != HeaderOrder::default()) {
        extra.destinations = orders;
    }
    Specifier::WeightedClusters(wire::WeightedCluster {
        clusters,
        ..wire::WeightedCluster::default()
    })
}

fn destination(
    pen: &mut Pen<'_>,
    model: &Destination,
) -> (wire::weighted_cluster::ClusterWeight, HeaderOrder) {
    use wire::weighted_cluster::cluster_weight::HostRewriteSpecifier;
    let Destination {
        cluster,
        weight,
        headers: changes,
        authority_rewrite,
        fault,
    } = model;
    let level = headers::level(pen, changes);
    let authority = match pen.is_grpc() {
        true => {
            pen.lose_if(authority_rewrite.is_some(), Loss::AuthorityRewrite);
            None
        }
        false => authority_rewrite.as_ref(),
    };
    // A fault filter that injects nothing is understood by all, unlike one that is switched off.
    let fault = match fault {
        OwnFault::AsRoute => None,
        OwnFault::Nothing => Some(extra::any(&fault_wire::HttpFault::default())),
        OwnFault::This(model) => Some(extra::any(&fault::fault(model))),
    };
    let message = wire::weighted_cluster::ClusterWeight {
        name: cluster.to_string(),
        typed_per_filter_config: fault
            .map(|any| (fault::FILTER.to_owned(), any))
            .into_iter()
            .collect(),
        weight: Some(value::number(*weight)),
        request_headers_to_add: level.request_add,
        request_headers_to_remove: level.request_remove,
        response_headers_to_add: level.response_add,
        response_headers_to_remove: level.response_remove,
        host_rewrite_specifier: authority
            .map(|authority| HostRewriteSpecifier::HostRewriteLiteral(authority.to_string())),
        ..wire::weighted_cluster::ClusterWeight::default()
    };
    let order = HeaderOrder {
        request: level.request_order,
        response: level.response_order,
    };
    (message, order)
}

fn mirror(model: &Mirror) -> wire::route_action::RequestMirrorPolicy {
    let Mirror { cluster, share } = model;
    wire::route_action::RequestMirrorPolicy {
        cluster: cluster.to_string(),
        runtime_fraction: Some(value::runtime_fraction(*share)),
        disable_shadow_host_suffix_append: true,
        ..wire::route_action::RequestMirrorPolicy::default()
    }
}

pub(super) fn direct(model: &DirectResponse) -> wire::DirectResponseAction {
    let DirectResponse { status, body } = model;
    wire::DirectResponseAction {
        status: u32::from(status.as_u16()),
        body: (!body.is_empty()).then(|| core::DataSource {
            specifier: Some(core::data_source::Specifier::InlineBytes(body.to_vec())),
            ..core::DataSource::default()
        }),
        body_format: None,
    }
}

pub(super) fn redirect(
    pen: &mut Pen<'_>,
    model: &Redirect,
    matcher: &RouteMatcher,
    extra: &mut RouteExtra,
) -> wire::RedirectAction {
    use wire::redirect_action::{
        PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
    };
    let Redirect {
        status,
        scheme,
        host,
        port,
        path,
    } = model;
    let code = match *status {
        StatusCode::MOVED_PERMANENTLY => RedirectResponseCode::MovedPermanently,
        StatusCode::SEE_OTHER => RedirectResponseCode::SeeOther,
        StatusCode::TEMPORARY_REDIRECT => RedirectResponseCode::TemporaryRedirect,
        StatusCode::PERMANENT_REDIRECT => RedirectResponseCode::PermanentRedirect,
        // The model has no other.
        _ => RedirectResponseCode::Found,
    };
    let path = path.as_ref().and_then(|path| match path {
        PathRewrite::Full(to) => Some(PathRewriteSpecifier::PathRedirect(to.to_string())),
        other => match rewrite(pen, other, matcher, extra) {
            Rewrite::Lost => None,
            Rewrite::Prefix(to) => Some(PathRewriteSpecifier::PrefixRewrite(to)),
            Rewrite::Regex(pattern, to) => Some(PathRewriteSpecifier::RegexRewrite(
                value::rewrite(&pattern, &to),
            )),
        },
    });
    let source = match port {
        RedirectPort::Unchanged | RedirectPort::Fixed(_) => RedirectPortSource::Unchanged,
        RedirectPort::FromRequest => RedirectPortSource::FromRequest,
        RedirectPort::FromScheme => RedirectPortSource::FromScheme,
    };
    let lost = source != RedirectPortSource::Unchanged;
    pen.lose_if(
        lost && pen.dialect == super::Dialect::Envoy,
        Loss::RedirectPort,
    );
    extra.redirect_port = source.into();
    wire::RedirectAction {
        host_redirect: host.as_deref().unwrap_or_default().to_owned(),
        port_redirect: match port {
            RedirectPort::Fixed(port) => u32::from(*port),
            RedirectPort::Unchanged | RedirectPort::FromRequest | RedirectPort::FromScheme => 0,
        },
        response_code: code.into(),
        strip_query: false,
        scheme_rewrite_specifier: scheme
            .as_ref()
            .map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(scheme.to_string())),
        path_rewrite_specifier: path,
    }
}
