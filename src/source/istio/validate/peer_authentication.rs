//! The rules of a PeerAuthentication (Istio's `ValidatePeerAuthentication`).

use super::Checker;
use super::names::labels;
use crate::source::istio::fault::quoted;
use crate::source::istio::kinds::PeerAuthentication;

pub(super) fn rules(check: &mut Checker<'_>, policy: &PeerAuthentication) {
    let PeerAuthentication {
        selector,
        mtls: _,
        port_level_mtls,
    } = policy;
    check.some("selector", selector.as_ref(), |check, selector| {
        check.within("matchLabels", |check| {
            labels(check, &selector.match_labels);
            let wild = |text: &String| text.contains('*');
            if selector
                .match_labels
                .iter()
                .any(|(key, value)| key.is_empty() || wild(key) || wild(value))
            {
                check.error("a selector has no empty key and no wildcard");
            }
        });
    });
    let selects = selector
        .as_ref()
        .is_some_and(|selector| !selector.match_labels.is_empty());
    if !port_level_mtls.is_empty() && !selects {
        check.error_at(
            "portLevelMtls",
            "port level mTLS is for policies with a selector: ports are those of a workload",
        );
    }
    check.within("portLevelMtls", |check| {
        for port in port_level_mtls.keys() {
            if !port.parse::<u16>().is_ok_and(|number| number > 0) {
                check.error(format!("{} is no port (1 to 65535)", quoted(port)));
            }
        }
    });
}
