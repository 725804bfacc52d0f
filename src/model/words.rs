//! Matchers in words, for whoever asks why a route was taken or not.
//!
//! The words are those of a sentence after "wants": `the path to begin with "/api"`.

use std::fmt;

use http::HeaderName;

use super::matcher::{
    HeaderKey, HeaderMatcher, HeaderTest, Mismatch, PathMatcher, QueryMatcher, RouteMatcher,
    StringMatcher,
};
use super::outlier::Outlier;
use super::retry::RetryOn;
use super::route::HeaderChange;

impl fmt::Display for StringMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contains(part) => write!(f, "to contain {part:?}"),
            Self::ContainsIgnoreCase(part) => write!(f, "to contain {part:?} in any case"),
            Self::Exact(whole) => write!(f, "to be {whole:?}"),
            Self::ExactIgnoreCase(whole) => write!(f, "to be {whole:?} in any case"),
            Self::Prefix(prefix) => write!(f, "to begin with {prefix:?}"),
            Self::PrefixIgnoreCase(prefix) => write!(f, "to begin with {prefix:?} in any case"),
            Self::Regex(regex) => write!(f, "to match {:?}", regex.pattern()),
            Self::Suffix(suffix) => write!(f, "to end with {suffix:?}"),
            Self::SuffixIgnoreCase(suffix) => write!(f, "to end with {suffix:?} in any case"),
        }
    }
}

impl fmt::Display for HeaderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority => f.write_str("the authority"),
            Self::Field(name) => write!(f, "the header {name}"),
            Self::Method => f.write_str("the method"),
            Self::Scheme => f.write_str("the scheme"),
        }
    }
}

/// Whether a header carries credentials: its values are shown to nobody.
pub(crate) fn is_secret(name: &HeaderName) -> bool {
    const SECRET: [&str; 6] = [
        "authorization",
        "cookie",
        "proxy-authorization",
        "set-cookie",
        "x-api-key",
        "x-auth-token",
    ];
    SECRET.contains(&name.as_str())
}

impl fmt::Display for HeaderMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.key)?;
        if self.invert {
            f.write_str("not ")?;
        }
        match &self.test {
            HeaderTest::Value(_) if matches!(&self.key, HeaderKey::Field(name) if is_secret(name)) =>
            {
                f.write_str("to have a value that is not shown")?;
            }
            HeaderTest::Present => f.write_str("to be there")?,
            HeaderTest::Range { from, to } => {
                write!(f, "to be a number from {from} to below {to}")?
            }
            HeaderTest::Value(matcher) => matcher.fmt(f)?,
        }
        if self.missing_is_empty {
            f.write_str(" (a missing one counts as empty)")?;
        }
        Ok(())
    }
}

impl fmt::Display for PathMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the path ")?;
        match self {
            Self::Exact(whole) => write!(f, "to be {whole:?}"),
            Self::ExactIgnoreCase(whole) => write!(f, "to be {whole:?} in any case"),
            Self::Prefix(prefix) => write!(f, "to begin with {prefix:?}"),
            Self::PrefixIgnoreCase(prefix) => write!(f, "to begin with {prefix:?} in any case"),
            Self::Regex(regex) => write!(f, "to match {:?}", regex.pattern()),
            Self::SegmentPrefix(prefix) => write!(f, "to be {prefix:?} or below it"),
        }
    }
}

impl fmt::Display for QueryMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the query parameter {} ", self.name)?;
        match &self.value {
            None => f.write_str("to be there"),
            Some(value) => value.fmt(f),
        }
    }
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(header) => header.fmt(f),
            Self::Path(path) => path.fmt(f),
            Self::Query(query) => query.fmt(f),
        }
    }
}

impl fmt::Display for RouteMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_everything() && self.headers.is_empty() && self.query.is_empty() {
            f.write_str("any request")?;
        } else {
            self.path.fmt(f)?;
        }
        self.headers
            .iter()
            .try_for_each(|one| write!(f, ", {one}"))?;
        self.query.iter().try_for_each(|one| write!(f, ", {one}"))?;
        match self.share {
            None => Ok(()),
            Some(share) => write!(f, ", and a share of {share}"),
        }
    }
}

impl fmt::Display for HeaderChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, name, value, condition) = match self {
            Self::Add(name, value) => ("add", name, value, ""),
            Self::AddIfAbsent(name, value) => ("add", name, value, " if it is absent"),
            Self::Remove(name) => return write!(f, "remove {name}"),
            Self::Set(name, value) => ("set", name, value, ""),
            Self::SetIfPresent(name, value) => ("set", name, value, " if it is there"),
        };
        if is_secret(name) || value.is_sensitive() {
            write!(f, "{verb} {name}{condition}: a value that is not shown")
        } else {
            write!(f, "{verb} {name}{condition}: {value:?}")
        }
    }
}

/// In the words of `retryOn`.
impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            server_error,
            gateway_error,
            reset,
            reset_before_request,
            connect_failure,
            refused_stream,
            retriable_4xx,
            envoy_ratelimited,
            http3_post_connect_failure,
            statuses,
            headers,
            grpc,
        } = self;
        let words = [
            (server_error, "5xx"),
            (gateway_error, "gateway-error"),
            (reset, "reset"),
            (reset_before_request, "reset-before-request"),
            (connect_failure, "connect-failure"),
            (refused_stream, "refused-stream"),
            (retriable_4xx, "retriable-4xx"),
            (envoy_ratelimited, "envoy-ratelimited"),
            (http3_post_connect_failure, "http3-post-connect-failure"),
        ];
        let words = words.into_iter().filter(|(set, _)| **set);
        let mut all: Vec<String> = words.map(|(_, word)| word.to_owned()).collect();
        all.extend(statuses.iter().map(|status| status.as_u16().to_string()));
        all.extend(headers.iter().map(|name| format!("header {name}")));
        all.extend(grpc.iter().map(|code| match code {
            1 => "cancelled".to_owned(),
            4 => "deadline-exceeded".to_owned(),
            8 => "resource-exhausted".to_owned(),
            13 => "internal".to_owned(),
            14 => "unavailable".to_owned(),
            other => format!("gRPC status {other}"),
        }));
        f.write_str(&all.join(","))
    }
}

impl fmt::Display for Outlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut causes = Vec::new();
        if let Some(number) = self.consecutive_5xx {
            causes.push(format!("{number} 5xx in a row"));
        }
        if let Some(number) = self.consecutive_gateway {
            causes.push(format!("{number} gateway errors in a row"));
        }
        if let Some(number) = self.local_origin.and_then(|local| local.consecutive) {
            causes.push(format!("{number} failures of this side in a row"));
        }
        if self.success_rate.is_some() {
            causes.push("a success rate far below the others".to_owned());
        }
        if let Some(failures) = self.failure_percentage {
            causes.push(format!("{} failures", failures.threshold));
        }
        let causes = if causes.is_empty() {
            "nothing".to_owned()
        } else {
            causes.join(" or ")
        };
        write!(
            f,
            "after {causes}, for {:?} and longer each time, at most {} of the endpoints",
            self.base_ejection_time, self.max_ejection
        )?;
        if self.always_eject_one {
            f.write_str(" or one")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fraction;

    #[test]
    fn matchers_are_told_in_words() {
        let matcher = RouteMatcher {
            path: PathMatcher::SegmentPrefix("/api".into()),
            headers: vec![
                HeaderMatcher {
                    key: HeaderKey::Field(HeaderName::from_static("x-canary")),
                    test: HeaderTest::Value(StringMatcher::Exact("true".into())),
                    invert: true,
                    missing_is_empty: true,
                },
                HeaderMatcher {
                    key: HeaderKey::Method,
                    test: HeaderTest::Present,
                    invert: false,
                    missing_is_empty: false,
                },
            ],
            query: vec![QueryMatcher {
                name: "page".into(),
                value: None,
            }],
            share: Fraction::from_percent(12.5).ok(),
        };
        assert_eq!(
            matcher.to_string(),
            "the path to be \"/api\" or below it, the header x-canary not to be \"true\" (a missing \
             one counts as empty), the method to be there, the query parameter page to be there, \
             and a share of 12.5 %"
        );
        assert_eq!(RouteMatcher::everything().to_string(), "any request");
    }

    #[test]
    fn credentials_are_not_repeated() {
        let name = HeaderName::from_static("authorization");
        let sesame = http::HeaderValue::from_static("Bearer sesame");
        let set = HeaderChange::Set(name.clone(), sesame);
        assert_eq!(
            set.to_string(),
            "set authorization: a value that is not shown"
        );
        let matcher = HeaderMatcher {
            key: HeaderKey::Field(name),
            test: HeaderTest::Value(StringMatcher::Exact("Bearer sesame".into())),
            invert: false,
            missing_is_empty: false,
        };
        assert!(!matcher.to_string().contains("sesame"), "{matcher}");
    }
}
