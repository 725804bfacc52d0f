use super::*;

#[test]
fn error_is_one_word_and_crosses_threads() {
    fn spawnable<T: Send + Sync + StdError + 'static>() {}
    spawnable::<Error>();
    assert_eq!(size_of::<Error>(), size_of::<usize>());
}

#[test]
fn text_names_cluster_endpoint_and_tries_and_leaves_the_cause_to_source() {
    let error = Error::new(Kind::Connect)
        .caused_by(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
        .at_cluster(&"outbound|80|v1|catalog.my-app.svc.cluster.local".into())
        .at_endpoint(&"10.0.0.1:8080".into())
        .after_attempts(3);
    assert_eq!(
        error.to_string(),
        "could not connect (cluster outbound|80|v1|catalog.my-app.svc.cluster.local, \
         endpoint 10.0.0.1:8080, after 3 tries)"
    );
    assert_eq!(error.source().unwrap().to_string(), "connection refused");
    assert!(error.is_connect() && error.is_unprocessed() && !error.is_timeout());
    assert_eq!(error.flag().unwrap().code(), "UF");
}

#[test]
fn inner_errors_stay_ours_or_become_the_cause() {
    let own = Error::from_inner(Error::new(Kind::Draining));
    assert!(own.is_draining() && own.source().is_none());
    let io = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    assert!(Error::from_inner(io).is_connect());
    let foreign = Error::from_inner("gone");
    assert_eq!(foreign.to_string(), "the inner service failed");
    assert_eq!(foreign.source().unwrap().to_string(), "gone");
}

#[test]
fn what_this_side_rejects_was_not_sent_and_says_why() {
    let wait = Duration::from_millis(250);
    for (kind, status, flag, text) in [
        (
            Kind::RateLimited { wait },
            429,
            "RL",
            "the local rate limit is exhausted; the next request may pass in 250ms",
        ),
        (
            Kind::Dropped {
                category: "lb".into(),
            },
            503,
            "DO",
            "not sent: the control plane wants a share of the requests dropped (category \
             \"lb\")",
        ),
        (
            Kind::Throttled,
            503,
            "UO",
            "not sent: so many recent requests failed that admission control rejects a share \
             of them on this side",
        ),
    ] {
        let error = Error::new(kind);
        assert_eq!(error.to_string(), text);
        assert_eq!(error.status().as_u16(), status);
        assert_eq!(error.flag().unwrap().code(), flag);
        assert_eq!(error.grpc_status(), 14);
        assert!(error.is_unprocessed() && !error.is_timeout() && error.limit().is_none());
        assert_eq!(error.is_rate_limited(), flag == "RL");
        assert_eq!(error.is_overloaded(), flag != "RL");
    }
}

#[test]
fn every_limit_names_its_field() {
    for (limit, field) in [
        (Limit::Connections, "connectionPool.tcp.maxConnections"),
        (
            Limit::Pending,
            "connectionPool.http.http1MaxPendingRequests",
        ),
        (Limit::Requests, "connectionPool.http.http2MaxRequests"),
        (Limit::Retries, "connectionPool.http.maxRetries"),
    ] {
        let error = Error::new(Kind::Overflow { limit });
        assert!(error.to_string().contains(field), "{error}");
        assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(error.limit(), Some(limit));
    }
}
