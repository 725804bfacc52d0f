//! The message of the Workload API, and what it means.

use std::collections::BTreeSet;

use thiserror::Error;
use zeroize::Zeroizing;

use super::super::identity::Identity;
use super::super::pem::Unusable;
use super::super::trust::{Bundle, Trust};
use crate::model::identity::{InvalidSpiffeId, TrustDomain};
use crate::protobuf::{Field, Fields, Malformed, Value};

/// How many certificates, lists or domains a message may have.
const MANY: usize = 1_024;

/// Why a message is discarded.
#[derive(Debug, Error)]
pub(super) enum Discarded {
    #[error("it is no X509SVIDResponse")]
    Malformed(#[from] Malformed),
    #[error("it has no SVID")]
    Empty,
    #[error("it has no SVID with the hint {0:?}")]
    NoHint(Box<str>),
    #[error("its SVID is {said:?}, and the certificate is {found}")]
    Other { said: Box<str>, found: Box<str> },
    #[error("{0}")]
    Unusable(#[from] Unusable),
    #[error("a federated trust domain {0:?}: {1}")]
    Domain(Box<str>, InvalidSpiffeId),
    #[error("something in it is no sequence of DER")]
    Der,
}

/// An `X509SVIDResponse`: all that this process is and trusts, at once.
#[derive(Default)]
pub(super) struct Message<'a> {
    svids: Vec<Svid<'a>>,
    revocations: Vec<&'a [u8]>,
    federated: Vec<(&'a str, &'a [u8])>,
}

/// An `X509SVID`.
#[derive(Clone, Default)]
struct Svid<'a> {
    id: &'a str,
    chain: &'a [u8],
    key: &'a [u8],
    bundle: &'a [u8],
    hint: &'a str,
}

impl<'a> Message<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut message = Self::default();
        for field in Fields(bytes) {
            let Field { number, value, .. } = field?;
            match (number, value) {
                (1, Value::Bytes(svid)) => message.svids.push(Svid::read(svid)?),
                (2, Value::Bytes(list)) => message.revocations.push(list),
                (3, Value::Bytes(entry)) => message.federated.push(entry_of(entry)?),
                _ => {}
            }
            let all = [
                message.svids.len(),
                message.revocations.len(),
                message.federated.len(),
            ];
            if all.into_iter().any(|many| many > MANY) {
                return Err(Malformed);
            }
        }
        // Of several with one hint the first counts (SPIFFE Workload API §5.2.1).
        let mut hints = BTreeSet::new();
        message
            .svids
            .retain(|svid| svid.hint.is_empty() || hints.insert(svid.hint));
        Ok(message)
    }

    /// Who this process is, and whom it trusts: nobody beside those in the message.
    pub(super) fn meaning(&self, hint: Option<&str>) -> Result<(Identity, Trust), Discarded> {
        let first = self.svids.first().ok_or(Discarded::Empty)?;
        let svid = match hint {
            None => first,
            Some(hint) => {
                let mut all = self.svids.iter();
                let found = all.find(|svid| svid.hint == hint);
                found.ok_or_else(|| Discarded::NoHint(hint.into()))?
            }
        };
        let key = Zeroizing::new(svid.key.to_vec());
        let identity = Identity::from_der(sequences(svid.chain)?, key.to_vec())?;
        let Some(id) = identity.id().filter(|id| id.as_str() == svid.id) else {
            let found = identity
                .id()
                .map_or("no X509-SVID", |id| id.as_str())
                .into();
            let said = svid.id.into();
            return Err(Discarded::Other { said, found });
        };
        let own = self.bundle(svid.bundle)?;
        let mut trust = Trust::default().with_domain(id.trust_domain().clone(), own);
        for (name, roots) in &self.federated {
            let domain = TrustDomain::new(name.strip_prefix("spiffe://").unwrap_or(name));
            let domain = domain.map_err(|error| Discarded::Domain((*name).into(), error))?;
            // Nobody else speaks for the own domain.
            if &domain != id.trust_domain() {
                trust = trust.with_domain(domain, self.bundle(roots)?);
            }
        }
        Ok((identity, trust))
    }

    fn bundle(&self, roots: &[u8]) -> Result<Bundle, Discarded> {
        let bundle = Bundle::from_der(sequences(roots)?)?;
        if self.revocations.is_empty() {
            return Ok(bundle);
        }
        let lists = self.revocations.iter().map(|list| list.to_vec());
        Ok(bundle.with_revocations_der(lists.collect())?)
    }
}

impl<'a> Svid<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut svid = Self::default();
        for field in Fields(bytes) {
            let Field { number, value, .. } = field?;
            match (number, value) {
                (1, Value::Bytes(id)) => svid.id = text(id)?,
                (2, Value::Bytes(chain)) => svid.chain = chain,
                (3, Value::Bytes(key)) => svid.key = key,
                (4, Value::Bytes(bundle)) => svid.bundle = bundle,
                (5, Value::Bytes(hint)) => svid.hint = text(hint)?,
                _ => {}
            }
        }
        Ok(svid)
    }
}

/// A key and its value.
fn entry_of(bytes: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let (mut key, mut value) = ("", &[][..]);
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Bytes(name)) => key = text(name)?,
            (2, Value::Bytes(roots)) => value = roots,
            _ => {}
        }
    }
    Ok((key, value))
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// Certificates stand one behind the other, each of them a SEQUENCE (X.690 8.9) that says how long it is.
fn sequences(mut rest: &[u8]) -> Result<Vec<Vec<u8>>, Discarded> {
    let mut all = Vec::new();
    while !rest.is_empty() {
        let length = length(rest).ok_or(Discarded::Der)?;
        let (one, after) = rest.split_at_checked(length).ok_or(Discarded::Der)?;
        all.push(one.to_vec());
        rest = after;
        if all.len() > MANY {
            return Err(Discarded::Der);
        }
    }
    Ok(all)
}

/// How many bytes the SEQUENCE has that stands first, its head included.
fn length(bytes: &[u8]) -> Option<usize> {
    let (head, rest) = bytes.split_at_checked(2)?;
    let [0x30, first] = *head else {
        return None;
    };
    if first < 0x80 {
        return Some(2 + usize::from(first));
    }
    let digits = usize::from(first & 0x7f);
    if !(1..=4).contains(&digits) {
        return None;
    }
    let value = rest.get(..digits)?.iter();
    let value = value.fold(0_usize, |value, byte| value << 8 | usize::from(*byte));
    value.checked_add(2 + digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_told_apart_by_their_lengths() {
        let long = [&[0x30, 0x81, 0x80][..], &[7; 0x80]].concat();
        let both = [&[0x30, 2, 1, 2][..], &long].concat();
        assert_eq!(sequences(&both).unwrap(), [vec![0x30, 2, 1, 2], long]);
        for bad in [
            &[0x31, 0][..],
            &[0x30],
            &[0x30, 5, 1],
            &[0x30, 0x80],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
        ] {
            assert!(sequences(bad).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #![proptest_config(crate::random::properties(256))]

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = sequences(&bytes);
            if let Ok(message) = Message::read(&bytes) {
                let _ = message.meaning(None);
            }
        }
    }
}
