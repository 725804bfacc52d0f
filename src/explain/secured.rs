//! How connections are secured, in words.

use crate::model::security::{ClientTls, Material, Security, Sni, Verification};

/// What is spoken to the endpoints of a cluster.
pub(super) fn secured(security: &Security) -> String {
    match security {
        Security::Plaintext => "plaintext".to_owned(),
        Security::Automatic(tls) => {
            format!(
                "to endpoints that speak it {}; to others plaintext",
                told(tls)
            )
        }
        Security::Tls(tls) => told(tls),
    }
}

fn told(tls: &ClientTls) -> String {
    let kind = match &tls.identity {
        None => "TLS".to_owned(),
        Some(identity) => format!("mutual TLS as {}", material(identity)),
    };
    let names = tls.names.iter().map(ToString::to_string);
    let names: Vec<String> = names.collect();
    let who = match (tls.verification, &names[..]) {
        (Verification::Nothing, _) => "whoever answers is believed".to_owned(),
        (Verification::Name | Verification::NameOr, []) => {
            "the server must have the name that is asked for".to_owned()
        }
        (Verification::Chain | Verification::Svid, []) => "any identity is believed".to_owned(),
        (Verification::NameOr, names) => format!(
            "the server must have the name that is asked for, or be {} where there is none",
            names.join(" or ")
        ),
        (Verification::Chain | Verification::Name | Verification::Svid, names) => {
            format!("the server must be {}", names.join(" or "))
        }
    };
    let trust = material(&tls.trust);
    let sni = match &tls.sni {
        Sni::Endpoint => ", the endpoint's name is asked for".to_owned(),
        Sni::EndpointOr(name) => {
            format!(", the endpoint's name is asked for, or {name} where it has none")
        }
        Sni::Name(name) => format!(", asks for {name}"),
        Sni::Nobody => String::new(),
    };
    format!("{kind}, trusts {trust}, {who}{sni}")
}

fn material(material: &Material) -> String {
    match material {
        Material::Files(files) => {
            let paths = [&files.certificate, &files.roots];
            let paths = paths.into_iter().flatten();
            let paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
            paths.join(" and ")
        }
        Material::Mesh => "the mesh".to_owned(),
        Material::Named(name) => format!("the credential {name}"),
        Material::System => "the system's authorities".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::matcher::StringMatcher;
    use crate::model::security::Alpn;

    #[test]
    fn each_way_has_its_words() {
        let tls = |identity, verification, names: Vec<StringMatcher>| {
            Arc::new(ClientTls {
                identity,
                trust: Material::Mesh,
                verification,
                names,
                sni: Sni::Name("a.b".into()),
                alpn: Alpn::Istio,
            })
        };
        assert_eq!(secured(&Security::Plaintext), "plaintext");
        let account = StringMatcher::Exact("spiffe://td/ns/a/sa/b".into());
        let mutual = tls(Some(Material::Mesh), Verification::Svid, vec![account]);
        let text = secured(&Security::Automatic(mutual));
        assert!(
            text.starts_with("to endpoints that speak it mutual TLS as the mesh, trusts the mesh"),
            "{text}"
        );
        assert!(
            text.contains("spiffe://td/ns/a/sa/b")
                && text.ends_with("asks for a.b; to others plaintext"),
            "{text}"
        );
        let nobody = secured(&Security::Tls(tls(None, Verification::Nothing, Vec::new())));
        assert!(
            nobody.contains("TLS, trusts the mesh, whoever answers is believed"),
            "{nobody}"
        );
    }
}
