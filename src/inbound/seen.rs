//! The head of a request as it was judged.
//!
//! A handler takes the request with it, and a stream of it may outlive the policies that it passed. So
//! what they look at is kept aside, for each request, although hardly any is ever judged again. That is
//! why it is kept flat: a [`HeaderMap`](http::HeaderMap) is three allocations to copy and one more for each
//! name that HTTP does not know, whereas these are bytes that are copied once, and the map that policies
//! read is made when there are other policies. To keep nothing and to judge by the head that the handler
//! was given was rejected: filters and authorizers change it.

use std::fmt;

use http::{HeaderName, HeaderValue, Method, Request, Uri};

/// What policies and routes look at.
pub(super) struct Seen {
    method: Method,
    uri: Uri,
    /// Names and values in turn, each behind its length.
    headers: Vec<u8>,
}

/// How a length is written.
const LENGTH: usize = size_of::<usize>();

impl Seen {
    /// That of a request, without what goes along with it. One allocation.
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let texts = || {
            let headers = request.headers().iter();
            headers.flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()])
        };
        let mut headers = Vec::with_capacity(texts().map(|text| LENGTH + text.len()).sum());
        for text in texts() {
            headers.extend_from_slice(&text.len().to_ne_bytes());
            headers.extend_from_slice(text);
        }
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers,
        }
    }

    /// Whether it is still that of the request.
    pub(super) fn is<B>(&self, request: &Request<B>) -> bool {
        let headers = request.headers().iter();
        let headers = headers.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        self.method == *request.method() && self.uri == *request.uri() && self.headers().eq(headers)
    }

    /// A request with this head; `None`: it cannot be made again, which whoever asks takes for a denial.
    /// What was a header is one, so that it does not come to that.
    pub(super) fn request(&self) -> Option<Request<()>> {
        let mut request = Request::new(());
        request.method_mut().clone_from(&self.method);
        request.uri_mut().clone_from(&self.uri);
        for (name, value) in self.headers() {
            let name = HeaderName::from_bytes(name).ok()?;
            let value = HeaderValue::from_bytes(value).ok()?;
            request.headers_mut().append(name, value);
        }
        Some(request)
    }

    /// Names and values, in their order.
    fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &*self.headers;
        let mut text = move || {
            let (length, behind) = rest.split_first_chunk::<LENGTH>()?;
            let (text, behind) = behind.split_at_checked(usize::from_ne_bytes(*length))?;
            rest = behind;
            Some(text)
        };
        std::iter::from_fn(move || Some((text()?, text()?)))
    }
}

/// Without the headers, among which are secrets.
impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen")
            .field("method", &self.method)
            .field("headers", &self.headers().count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request<&'static str> {
        let request = Request::put("http://server/items?page=2");
        let request = request.header("x-tenant", "blue").header("x-other", "1");
        let request = request
            .header("x-tenant", "green")
            .header("x-empty", "")
            .header("x-bytes", &b"\xff\t\x80"[..])
            .header("authorization", "secret");
        request.body("body").unwrap()
    }

    #[test]
    fn what_was_seen_comes_again_as_it_was() {
        let request = request();
        let seen = Seen::of(&request);
        let again = seen.request().expect("they were headers");
        assert_eq!(again.method(), request.method());
        assert_eq!(again.uri(), request.uri());
        assert_eq!(again.headers(), request.headers());
        assert!(seen.is(&request) && seen.is(&again));
        let text = format!("{seen:?}");
        assert!(
            text.contains("headers: 6") && !text.contains("secret"),
            "{text}"
        );
    }

    #[test]
    fn any_change_is_noticed() {
        type Change = fn(&mut Request<&'static str>);
        let changes: [(&str, Change); 6] = [
            ("the method", |one| *one.method_mut() = Method::GET),
            ("the path", |one| {
                *one.uri_mut() = Uri::from_static("http://server/?page=2")
            }),
            ("a value more", |one| {
                one.headers_mut()
                    .append("x-tenant", HeaderValue::from_static("red"));
            }),
            ("another value", |one| {
                one.headers_mut()
                    .insert("x-other", HeaderValue::from_static("2"));
            }),
            ("a header less", |one| {
                one.headers_mut().remove("x-other");
            }),
            ("a header more", |one| {
                one.headers_mut()
                    .insert("x-new", HeaderValue::from_static("1"));
            }),
        ];
        let seen = Seen::of(&request());
        for (row, change) in changes {
            let mut changed = request();
            change(&mut changed);
            assert!(!seen.is(&changed), "{row}");
        }
    }
}
