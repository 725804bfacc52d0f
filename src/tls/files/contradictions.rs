//! What a source of files was told that cannot be true together.
//!
//! A file may be missing or half written when a mesh starts, and be there a second later: that is waited for. A
//! source that contradicts itself would be waited for in vain, with handshakes that fail for a reason which stands in
//! a log of long ago. So [`Builder::start`](crate::Builder::start) refuses it, with all that is wrong with it.

use super::FileSource;
use crate::model::identity::{SpiffeId, TrustDomain};
use crate::model::security::Files;
use crate::tls::identity::Identity;
use crate::tls::pem::Unusable;

impl FileSource {
    /// Whether there are files that this source could be used with; the identity that is there by now counts.
    ///
    /// # Errors
    /// Everything that no file can mend.
    pub(in crate::tls) fn consistent(&self) -> Result<(), Unusable> {
        let Files {
            certificate,
            key,
            roots,
            revocations,
        } = &self.files;
        let own = self.identity().ok().flatten();
        let own = own.as_ref().and_then(Identity::id);
        let mut faults = self.contradictions(own.map(SpiffeId::trust_domain));
        match (certificate, key) {
            (Some(certificate), None) => faults.push(format!(
                "certificate {}: no key is named; both are needed or neither",
                certificate.display()
            )),
            (None, Some(key)) => faults.push(format!(
                "key {}: no certificate is named; both are needed or neither",
                key.display()
            )),
            (Some(_), Some(_)) | (None, None) => {}
        }
        let trusts = roots.is_some() || self.map.is_some() || !self.federated.is_empty();
        if let Some(revocations) = revocations
            && !trusts
        {
            faults.push(format!(
                "revocations {}: no roots are named whose certificates they could revoke",
                revocations.display()
            ));
        }
        if roots.is_none() && self.map.is_none() {
            faults.extend(self.domains.iter().map(|domain| {
                format!("trusted_for({domain}): no roots are named that it could be trusted by")
            }));
        }
        if faults.is_empty() && certificate.is_none() && !trusts {
            faults.push("neither a certificate nor roots are named; one is needed".to_owned());
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Unusable::new("the source of files", faults.join("; "))),
        }
    }

    /// Whether each trust domain is told of in one place, `own` being that of the identity in the files.
    pub(super) fn judge(&self, own: Option<&TrustDomain>) -> Result<(), Unusable> {
        let faults = self.contradictions(own);
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Unusable::new(
                "the list of trust domains",
                faults.join("; "),
            )),
        }
    }

    fn contradictions(&self, own: Option<&TrustDomain>) -> Vec<String> {
        let mut faults = Vec::new();
        if self.map.is_some() {
            let aliases = self.domains.iter().map(|domain| ("trusted_for", domain));
            let federated = self.federated.iter();
            let federated = federated.map(|(domain, _)| ("federated_with", domain));
            faults.extend(aliases.chain(federated).map(|(place, domain)| {
                format!(
                    "{place}({domain}): a SPIFFE bundle map alone says which domains are trusted; \
                     put its roots into the map"
                )
            }));
            return faults;
        }
        for (index, (domain, _)) in self.federated.iter().enumerate() {
            let before = &self.federated[..index];
            let why = if before.iter().any(|(known, _)| known == domain) {
                "another file is named for it"
            } else if self.domains.contains(domain) {
                "trusted_for says that it is another name of the own domain"
            } else if own == Some(domain) && self.files.roots.is_some() {
                "it is the own domain, which the roots of the own files count for"
            } else {
                continue;
            };
            faults.push(format!(
                "federated_with({domain}): {why}; one place is allowed for each domain"
            ));
        }
        faults
    }
}
