//! The context of a trace on the wire: W3C Trace Context, and B3 as Zipkin has it.

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The span that comes before, as its headers told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Parent {
    pub(crate) trace: u128,
    pub(crate) span: u64,
    /// `None`: nobody has decided yet.
    pub(crate) sampled: Option<bool>,
    state: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    /// In which words it came, and goes on.
    words: Words,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Words {
    B3,
    B3Single,
    W3c,
}

impl Parent {
    /// A span of our own, told in W3C's words, or in those of `before`.
    pub(crate) fn new(trace: u128, span: u64, sampled: bool, before: Option<&Self>) -> Self {
        Self {
            trace,
            span,
            sampled: Some(sampled),
            state: before.and_then(|before| before.state.clone()),
            request_id: before.and_then(|before| before.request_id.clone()),
            words: before.map_or(Words::W3c, |before| before.words),
        }
    }

    /// The first context that is there and well-formed: W3C's, then B3's.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let parent = w3c(headers)
            .or_else(|| single(headers))
            .or_else(|| multi(headers))?;
        let request_id = headers.get(REQUEST_ID).cloned();
        Some(Self {
            request_id,
            ..parent
        })
    }

    /// W3C's `tracestate`, if it came with one.
    #[cfg(feature = "otel")]
    pub(crate) fn state(&self) -> Option<&str> {
        self.state.as_ref()?.to_str().ok()
    }

    /// Writes it, in place of any other context.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        for name in [
            TRACEPARENT,
            B3,
            B3_TRACE,
            B3_SPAN,
            B3_PARENT,
            B3_SAMPLED,
            B3_FLAGS,
        ] {
            headers.remove(name);
        }
        let Self { trace, span, .. } = self;
        let mut set = |name: HeaderName, text: String| {
            // Hexadecimal digits and hyphens: always a header value.
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        };
        match self.words {
            Words::W3c => {
                let flags = u8::from(self.sampled.unwrap_or(false));
                set(
                    TRACEPARENT,
                    format!("00-{trace:032x}-{span:016x}-{flags:02x}"),
                );
            }
            Words::B3Single => {
                let sampled = match self.sampled {
                    None => "",
                    Some(false) => "-0",
                    Some(true) => "-1",
                };
                set(B3, format!("{trace:032x}-{span:016x}{sampled}"));
            }
            Words::B3 => {
                set(B3_TRACE, format!("{trace:032x}"));
                set(B3_SPAN, format!("{span:016x}"));
                if let Some(sampled) = self.sampled {
                    set(B3_SAMPLED, u8::from(sampled).to_string());
                }
            }
        }
        if let (Some(state), Words::W3c) = (&self.state, self.words) {
            headers.insert(TRACESTATE, state.clone());
        }
        if let Some(id) = &self.request_id {
            headers.entry(REQUEST_ID).or_insert_with(|| id.clone());
        }
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Lower-case hexadecimal digits of this number and not all zero, as W3C has it; B3's readers take
/// capitals too.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let well_formed = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(well_formed.then_some(text)?, 16).ok()?;
    (number != 0).then_some(number)
}

fn span(text: &str) -> Option<u64> {
    hex(text, 16).and_then(|span| u64::try_from(span).ok())
}

/// W3C Trace Context level 1, section 3.2: version, trace, parent, flags; a later version may have more.
fn w3c(headers: &HeaderMap) -> Option<Parent> {
    let text = text(headers, TRACEPARENT)?;
    let mut parts = text.split('-');
    let [version, trace, parent, flags] =
        [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let capital = |part: &str| part.bytes().any(|byte| byte.is_ascii_uppercase());
    let known = version.len() == 2 && u8::from_str_radix(version, 16).is_ok() && version != "ff";
    if !known || (version == "00" && parts.next().is_some()) || capital(text) || flags.len() != 2 {
        return None;
    }
    Some(Parent {
        trace: hex(trace, 32)?,
        span: span(parent)?,
        sampled: Some(u8::from_str_radix(flags, 16).ok()? & 1 == 1),
        state: headers.get(TRACESTATE).cloned(),
        request_id: None,
        words: Words::W3c,
    })
}

/// `b3: trace-span[-sampled[-parent]]`.
fn single(headers: &HeaderMap) -> Option<Parent> {
    let mut parts = text(headers, B3)?.split('-');
    let (trace, own) = (parts.next()?, parts.next()?);
    Some(Parent {
        trace: b3_trace(trace)?,
        span: span(own)?,
        sampled: decision(parts.next()),
        state: None,
        request_id: None,
        words: Words::B3Single,
    })
}

fn multi(headers: &HeaderMap) -> Option<Parent> {
    let debug = text(headers, B3_FLAGS) == Some("1");
    let sampled = if debug {
        Some(true)
    } else {
        decision(text(headers, B3_SAMPLED))
    };
    Some(Parent {
        trace: b3_trace(text(headers, B3_TRACE)?)?,
        span: span(text(headers, B3_SPAN)?)?,
        sampled,
        state: None,
        request_id: None,
        words: Words::B3,
    })
}

/// Old traces have 64 bits.
fn b3_trace(text: &str) -> Option<u128> {
    hex(text, 32).or_else(|| hex(text, 16))
}

fn decision(text: Option<&str>) -> Option<bool> {
    match text? {
        "1" | "d" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                value.parse::<HeaderValue>().unwrap(),
            )
        });
        pairs.collect()
    }

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_context_goes_on_in_the_words_in_which_it_came() {
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let b3 = format!("{TRACE}-{SPAN}-0");
        for pairs in [
            &[
                ("traceparent", w3c.as_str()),
                ("tracestate", "a=1,b=2"),
                ("x-request-id", "7"),
            ][..],
            &[("b3", &b3)],
            &[
                ("x-b3-traceid", TRACE),
                ("x-b3-spanid", SPAN),
                ("x-b3-sampled", "1"),
            ],
            &[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)],
        ] {
            let before = headers(pairs);
            let mut after = HeaderMap::new();
            Parent::of(&before).unwrap().write(&mut after);
            assert_eq!(after, before);
        }
    }

    #[test]
    fn what_is_not_well_formed_is_no_context() {
        let upper = TRACE.to_uppercase();
        for text in [
            "",
            "00",
            &format!("00-{TRACE}-{SPAN}"),
            &format!("00-{TRACE}-{SPAN}-01-x"),
            &format!("ff-{TRACE}-{SPAN}-01"),
            &format!("00-{upper}-{SPAN}-01"),
            &format!("00-{}-{SPAN}-01", "0".repeat(32)),
            &format!("00-{TRACE}-{}-01", "0".repeat(16)),
            &format!("00-{TRACE}-{SPAN}-1"),
            &format!("00-{TRACE}-{SPAN}-zz"),
        ] {
            assert_eq!(
                Parent::of(&headers(&[("traceparent", text)])),
                None,
                "{text:?}"
            );
        }
        let later = format!("cc-{TRACE}-{SPAN}-01-what-comes");
        assert!(Parent::of(&headers(&[("traceparent", &later)])).is_some());
        let both = headers(&[
            ("traceparent", "bad"),
            ("x-b3-traceid", SPAN),
            ("x-b3-spanid", SPAN),
        ]);
        assert_eq!(Parent::of(&both).unwrap().sampled, None);
    }

    proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn no_header_panics(text in "[0-9a-fA-F-]{0,80}", other in ".*") {
            for text in [&text, &other] {
                if let Ok(value) = HeaderValue::from_str(text) {
                    let mut all = HeaderMap::new();
                    for name in [TRACEPARENT, B3, B3_TRACE, B3_SPAN] {
                        all.insert(name, value.clone());
                    }
                    let _ = Parent::of(&all);
                }
            }
        }
    }
}
