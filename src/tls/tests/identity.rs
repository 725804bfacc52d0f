//! What an identity says of itself.

use super::*;

const ID: &str = "spiffe://td/ns/my-app/sa/order";

#[test]
fn an_identity_says_who_it_is_and_from_when_until_when() {
    let root = Root::new("root");
    let issued = root.sign(&leaf(vec![uri(ID)]));
    let own = issued.identity();
    assert_eq!(own.id().map(|id| id.as_str()), Some(ID));
    assert_eq!(own.not_before(), BEGIN);
    assert_eq!(own.not_after(), BEGIN + LIFETIME);
    assert_eq!(own.serial(), "0a:0b:0c");
    assert_eq!(own.chain().collect::<Vec<_>>(), [&*issued.der()]);
    let unnamed = root.sign(&leaf(vec![dns("order.example")])).identity();
    assert_eq!(unnamed.id(), None);
}

#[test]
fn a_chain_is_kept_leaf_first_whatever_it_was_read_from() {
    let root = Root::new("root");
    let issued = root.sign(&leaf(vec![uri(ID)]));
    let chain = vec![issued.der().to_vec(), root.der.to_vec()];
    let read = Identity::from_der(chain.clone(), issued.key.serialize_der()).unwrap();
    assert_eq!(read.chain().collect::<Vec<_>>(), chain);
    let written = issued.certificate.pem();
    let alone = Identity::from_pem(written.as_bytes(), issued.key.serialize_pem().as_bytes());
    assert_eq!(alone.unwrap(), issued.identity());
}

#[test]
fn identities_are_the_same_if_their_certificates_are() {
    let root = Root::new("root");
    let (one, other) = (
        root.sign(&leaf(vec![uri(ID)])),
        root.sign(&leaf(vec![uri(ID)])),
    );
    assert_eq!(one.identity(), one.identity());
    assert_ne!(one.identity(), other.identity());
}

#[test]
fn what_is_shown_of_an_identity_has_no_key() {
    let issued = Root::new("root").sign(&leaf(vec![uri(ID)]));
    let shown = format!("{:?}", issued.identity());
    assert_eq!(
        shown,
        format!(
            "Identity {{ id: Some({ID:?}), serial: \"0a:0b:0c\", not_after: {:?}, .. }}",
            BEGIN + LIFETIME
        )
    );
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let root = Root::new("root");
    let (own, other) = (
        root.sign(&leaf(vec![uri(ID)])),
        root.sign(&leaf(vec![uri(ID)])),
    );
    let torn = Identity::from_der(vec![own.der().to_vec()], other.key.serialize_der());
    let why = torn.unwrap_err().to_string();
    assert!(why.contains("does not belong"), "{why}");
    let empty = Identity::from_der(Vec::new(), own.key.serialize_der());
    assert!(empty.unwrap_err().to_string().contains("it is empty"));
}

#[test]
fn it_is_renewed_at_half_of_what_is_left_a_twentieth_earlier_or_later() {
    let own = Root::new("root").sign(&leaf(vec![uri(ID)])).identity();
    let left = Duration::from_secs(20_000);
    let now = BEGIN + LIFETIME - left;
    for (draw, seconds) in [
        (-1.0, 9_500),
        (0.0, 9_500),
        (0.25, 9_750),
        (0.5, 10_000),
        (1.0, 10_500),
        (9.0, 10_500),
    ] {
        let found = own.renewal(now, draw);
        let off = found.abs_diff(now + Duration::from_secs(seconds));
        assert!(off < Duration::from_millis(1), "{draw}: {off:?}");
    }
    let late = BEGIN + LIFETIME + SECOND;
    assert_eq!(own.renewal(late, 0.5), late, "nothing is left");
}
