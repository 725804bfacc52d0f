//! Routes by chance.

use super::*;

pub(super) fn string_matcher(c: &mut Chance) -> StringMatcher {
    match c.below(9) {
        0 => StringMatcher::Contains(c.text()),
        1 => StringMatcher::ContainsIgnoreCase(c.text()),
        2 => StringMatcher::Exact(if c.flag() { c.text() } else { "".into() }),
        3 => StringMatcher::ExactIgnoreCase(c.text()),
        4 => StringMatcher::Prefix(c.text()),
        5 => StringMatcher::PrefixIgnoreCase(c.text()),
        6 => StringMatcher::Regex(Regex::new(c.one(&[".*", "v[0-9]+", "a|b", ""])).unwrap()),
        7 => StringMatcher::Suffix(c.text()),
        _ => StringMatcher::SuffixIgnoreCase(c.text()),
    }
}

fn header_matcher(c: &mut Chance) -> HeaderMatcher {
    HeaderMatcher {
        key: match c.below(6) {
            0 => HeaderKey::Authority,
            1 => HeaderKey::Method,
            2 => HeaderKey::Scheme,
            _ => HeaderKey::Field(c.header_name()),
        },
        test: match c.below(4) {
            0 => HeaderTest::Present,
            1 => HeaderTest::Range {
                from: i64::from(c.number()) - 5,
                to: i64::from(c.number()),
            },
            _ => HeaderTest::Value(string_matcher(c)),
        },
        invert: c.flag(),
        missing_is_empty: c.flag(),
    }
}

fn path_matcher(c: &mut Chance) -> PathMatcher {
    let path: Box<str> = c.one(&["/", "/a", "/a/b", "/a/", "", "/a?b", "/A"]).into();
    match c.below(6) {
        0 => PathMatcher::Exact(path),
        1 => PathMatcher::ExactIgnoreCase(path),
        2 => PathMatcher::Prefix(path),
        3 => PathMatcher::PrefixIgnoreCase(path),
        4 => PathMatcher::Regex(Regex::new(c.one(&[".*", "/a/[^/]+", "/(a|b)"])).unwrap()),
        _ => PathMatcher::SegmentPrefix(path),
    }
}

fn route_matcher(c: &mut Chance) -> RouteMatcher {
    RouteMatcher {
        path: path_matcher(c),
        headers: c.list(2, header_matcher),
        query: c.list(1, |c| QueryMatcher {
            name: c.text(),
            value: c.option(string_matcher),
        }),
        share: c.option(Chance::fraction),
    }
}

fn header_changes(c: &mut Chance) -> HeaderChanges {
    let change = |c: &mut Chance| match c.below(5) {
        0 => HeaderChange::Add(c.header_name(), c.header_value()),
        1 => HeaderChange::AddIfAbsent(c.header_name(), c.header_value()),
        2 => HeaderChange::Remove(c.header_name()),
        3 => HeaderChange::Set(c.header_name(), c.header_value()),
        _ => HeaderChange::SetIfPresent(c.header_name(), c.header_value()),
    };
    HeaderChanges {
        request: c.list(3, change),
        response: c.list(2, change),
    }
}

fn path_rewrite(c: &mut Chance) -> PathRewrite {
    let to: Box<str> = c.one(&["/", "/new", "", "/back\\slash", "/$1"]).into();
    match c.below(4) {
        0 => PathRewrite::Full(to),
        1 => PathRewrite::Regex {
            pattern: RewritePattern::new(c.one(&["^.*$", "/a/(.*)", "a"])).unwrap(),
            to: c.one(&["/\\1", "\\\\", "x"]).into(),
        },
        _ => PathRewrite::Prefix {
            from: c.one(&["/", "/a", "/a/b", ""]).into(),
            to,
        },
    }
}

fn fault(c: &mut Chance) -> Fault {
    Fault {
        delay: c.option(|c| Delay {
            duration: match c.flag() {
                true => Amount::Fixed(c.duration()),
                false => Amount::Header,
            },
            share: c.fraction(),
        }),
        abort: c.option(|c| Abort {
            status: match c.below(3) {
                0 => Amount::Header,
                1 => Amount::Fixed(AbortStatus::Grpc(c.number())),
                _ => Amount::Fixed(AbortStatus::Http(StatusCode::from_u16(503).unwrap())),
            },
            share: c.fraction(),
        }),
        max_active: c.option(Chance::positive),
    }
}

fn retry_policy(c: &mut Chance) -> RetryPolicy {
    RetryPolicy {
        on: RetryOn {
            server_error: c.flag(),
            gateway_error: c.flag(),
            reset: c.flag(),
            reset_before_request: c.flag(),
            connect_failure: c.flag(),
            refused_stream: c.flag(),
            retriable_4xx: c.flag(),
            envoy_ratelimited: c.flag(),
            http3_post_connect_failure: c.flag(),
            statuses: c.list(2, |c| {
                StatusCode::from_u16(c.below(200) as u16 + 400).unwrap()
            }),
            headers: c.list(2, Chance::header_name),
            grpc: c.list(3, |c| *c.one(&[&1, &4, &8, &13, &14])),
        },
        retries: c.number(),
        per_try_timeout: c.option(Chance::duration),
        backoff: match c.below(4) {
            0 => Backoff::default(),
            1 => Backoff {
                base: Duration::ZERO,
                max: Duration::ZERO,
            },
            _ => Backoff {
                base: c.duration(),
                max: c.duration(),
            },
        },
        avoid_previous: c.flag(),
        hedge: c.option(|c| Hedge {
            delay: c.duration(),
            extra: c.positive(),
        }),
        leave_priorities: c.option(|c| NonZeroU32::MIN.saturating_add(c.below(5))),
    }
}

fn affinity(c: &mut Chance) -> Affinity {
    Affinity {
        hash: c.list(2, |c| HashPolicy {
            source: match c.below(5) {
                0 => HashSource::Cookie(HashCookie {
                    name: c.text(),
                    made: c.option(|c| MadeCookie {
                        max_age: NonZeroU64::new(u64::from(c.number())),
                        path: c.option(Chance::text),
                        attributes: c.list(2, |c| (c.text(), c.option(Chance::text))),
                    }),
                }),
                1 => HashSource::Header(c.header_name()),
                2 => HashSource::Query(c.text()),
                3 => HashSource::RewrittenHeader {
                    name: c.header_name(),
                    pattern: RewritePattern::new("a(.*)").unwrap(),
                    to: "\\1".into(),
                },
                _ => HashSource::Source,
            },
            terminal: c.flag(),
        }),
        session: c.option(|c| Session {
            key: match c.flag() {
                true => SessionKey::Header(c.header_name()),
                false => SessionKey::Cookie(SessionCookie {
                    cookie: c.text().into(),
                    path: c.option(Chance::text),
                    ttl: c.option(Chance::duration).unwrap_or_default(),
                }),
            },
            strict: c.flag(),
        }),
    }
}

fn destinations(c: &mut Chance) -> Destinations {
    if c.flag() {
        return Destinations::single(c.name());
    }
    let mut all = c.list(2, |c| Destination {
        cluster: c.name(),
        weight: c.below(1_000),
        headers: header_changes(c),
        authority_rewrite: c.option(Chance::authority),
        fault: match c.below(3) {
            0 => OwnFault::Nothing,
            1 => OwnFault::This(fault(c)),
            _ => OwnFault::AsRoute,
        },
    });
    all.push(Destination {
        cluster: c.name(),
        weight: c.below(3) + 1,
        headers: HeaderChanges::default(),
        authority_rewrite: None,
        fault: OwnFault::AsRoute,
    });
    Destinations::weighted(all).unwrap()
}

fn action(c: &mut Chance) -> Action {
    match c.below(8) {
        0 => Action::Direct(DirectResponse {
            status: StatusCode::from_u16(c.below(400) as u16 + 200).unwrap(),
            body: Bytes::copy_from_slice(c.one(&["", "hello"]).as_bytes()),
        }),
        1 => Action::Redirect(Redirect {
            status: StatusCode::from_u16(*c.one(&[&301, &302, &303, &307, &308])).unwrap(),
            scheme: c.option(|c| Scheme::try_from(c.one(&["http", "https", "other"])).unwrap()),
            host: c.option(Chance::text),
            port: match c.below(4) {
                0 => RedirectPort::Unchanged,
                1 => RedirectPort::FromRequest,
                2 => RedirectPort::FromScheme,
                _ => RedirectPort::Fixed(c.below(65_535) as u16 + 1),
            },
            path: c.option(path_rewrite),
        }),
        2 if c.below(4) == 0 => Action::Unknown,
        2 => Action::Serve,
        _ => Action::Forward(Box::new(Forward {
            destinations: destinations(c),
            timeout: c.option(Chance::duration),
            idle_timeout: c.option(Chance::duration),
            retry: c.option(retry_policy),
            path_rewrite: c.option(path_rewrite),
            authority_rewrite: c.option(Chance::authority),
            endpoint_authority: c.flag(),
            mirrors: c.list(2, |c| Mirror {
                cluster: c.name(),
                share: c.fraction(),
            }),
            affinity: affinity(c),
            upgrades: match c.below(3) {
                0 => Upgrades::none(),
                1 => Upgrades::of(["spdy/3.1", "CONNECT"]),
                _ => Upgrades::default(),
            },
        })),
    }
}

pub(super) fn route(c: &mut Chance) -> Route {
    let mut route = Route {
        name: c.text().as_ref().into(),
        matcher: route_matcher(c),
        action: action(c),
        headers: header_changes(c),
        fault: c.option(fault),
        filters: Vec::new(),
        limits: Vec::new(),
        stat_prefix: c.flag().then(|| "statistics".into()),
        origin: c.origin(),
    };
    // What a destination says that is what its route says too is not said.
    if let Action::Forward(forward) = &mut route.action {
        forward.destinations.map_faults(|own| match own {
            OwnFault::AsRoute => OwnFault::AsRoute,
            OwnFault::Nothing => own_fault(route.fault.as_ref(), None),
            OwnFault::This(fault) => own_fault(route.fault.as_ref(), Some(fault)),
        });
    }
    route
}

pub(super) fn route_configuration(c: &mut Chance, name: Arc<str>) -> RouteConfiguration {
    let count = c.below(3);
    let virtual_hosts = (0..count).map(|number| {
        let domains = match number {
            0 => vec![Domain::Any, Domain::Exact("a.example:80".into())],
            1 => vec![Domain::Suffix(".b.example".into())],
            _ => vec![Domain::Prefix("c.".into())],
        };
        Arc::new(VirtualHost {
            name: c.text().as_ref().into(),
            domains,
            routes: c.list(3, |c| Arc::new(route(c))),
            origin: c.origin(),
        })
    });
    RouteConfiguration {
        virtual_hosts: virtual_hosts.collect(),
        name,
        origin: Origin::built_in(),
    }
}
