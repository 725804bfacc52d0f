//! The last good resources on disk, for a process that starts while no control plane answers.
//!
//! One file in the folder, written whole under another name and moved into place: a mark with a
//! checksum, then one message for each kind, as a server of the incremental variant would send it.
//! What cannot be read is as good as absent: the file is a help, never a reason not to start. What is
//! read counts as unconfirmed: it is in use until a server says something newer, and is dropped if a
//! server that answers does not have it.

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;
use tokio::time::Instant;
use twox_hash::XxHash64;

use super::ads::message::Raw;
use super::store::{Good, Key};
use super::{Context, Decode, Decoded, Kind, name};

const FILE: &str = "resources.pb";
const NEW: &str = "resources.pb.new";
/// The version of the format; then eight bytes of checksum.
const MARK: &[u8] = b"meshwork-xds-1\n";
/// What is larger is not read: it was not written here.
const LARGEST: u64 = 1 << 30;

/// A resource as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) key: Key,
    pub(crate) version: Arc<str>,
    pub(crate) raw: Raw,
}

/// Writes all resources; blocks.
pub(crate) fn save(folder: &Path, kept: &[Kept]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut body = Vec::new();
    for kind in Kind::ALL {
        let of_kind = kept.iter().filter(|kept| kept.key.0 == kind);
        let message = DeltaDiscoveryResponse {
            type_url: kind.type_url().into(),
            resources: of_kind.map(resource).collect(),
            ..DeltaDiscoveryResponse::default()
        };
        message
            .encode_length_delimited(&mut body)
            .map_err(io::Error::other)?;
    }
    let new = folder.join(NEW);
    let mut file = std::fs::File::create(&new)?;
    file.write_all(MARK)?;
    file.write_all(&checksum(&body))?;
    file.write_all(&body)?;
    file.sync_all()?;
    std::fs::rename(new, folder.join(FILE))
}

fn resource(kept: &Kept) -> Resource {
    Resource {
        name: kept.key.1.to_string(),
        version: kept.version.to_string(),
        resource: Some(Any {
            type_url: kept.raw.type_url.to_string(),
            value: kept.raw.bytes.to_vec(),
        }),
        ..Resource::default()
    }
}

fn checksum(body: &[u8]) -> [u8; 8] {
    let mut hasher = XxHash64::with_seed(0);
    hasher.write(body);
    hasher.finish().to_be_bytes()
}

/// Reads what was saved; blocks. A file that is not there holds nothing.
pub(crate) fn load(
    folder: &Path,
    decoder: &dyn Decode,
    context: Context<'_>,
    now: Instant,
) -> io::Result<BTreeMap<Key, Good>> {
    let path = folder.join(FILE);
    let size = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "it is not what was written");
    if size > LARGEST {
        return Err(broken());
    }
    let whole = Bytes::from(std::fs::read(&path)?);
    let rest = whole.strip_prefix(MARK).ok_or_else(broken)?;
    let (sum, body) = rest.split_first_chunk::<8>().ok_or_else(broken)?;
    if *sum != checksum(body) {
        return Err(broken());
    }
    let mut body = whole.slice_ref(body);
    let mut seeds = BTreeMap::new();
    while body.has_remaining() {
        let message = DeltaDiscoveryResponse::decode_length_delimited(&mut body);
        let message = message.map_err(|_| broken())?;
        let Some(kind) = Kind::of_type_url(&message.type_url) else {
            continue;
        };
        for resource in message.resources {
            seeds.extend(seed(kind, resource, decoder, context, now));
        }
    }
    Ok(seeds)
}

/// What another version of this crate accepted may be refused by this one.
fn seed(
    kind: Kind,
    resource: Resource,
    decoder: &dyn Decode,
    context: Context<'_>,
    now: Instant,
) -> Option<(Key, Good)> {
    let any = resource.resource?;
    let raw = Raw {
        type_url: any.type_url.into(),
        bytes: any.value.into(),
    };
    match decoder.decode(kind, &raw.bytes, context) {
        Ok(Decoded {
            name: inner,
            resource: value,
        }) => {
            let good = Good {
                resource: value,
                raw,
                version: resource.version.into(),
                received: now,
                unconfirmed: true,
                expires: None,
            };
            Some(((kind, name::canonical(&inner)), good))
        }
        Err(rejection) => {
            let name = resource.name;
            tracing::warn!(target: "meshwork::source::xds", %kind, name, %rejection, "on disk, refused");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::source::xds::client::tests::decoder::Texts;

    fn kept(kind: Kind, text: &str) -> Kept {
        Kept {
            key: (kind, text.split('|').next().unwrap().into()),
            version: "7".into(),
            raw: Raw {
                type_url: kind.type_url().into(),
                bytes: Bytes::copy_from_slice(text.as_bytes()),
            },
        }
    }

    fn read(folder: &Path) -> io::Result<BTreeMap<Key, Good>> {
        let (server, version) = (Arc::from("disk"), Arc::from(""));
        let context = Context {
            server: &server,
            version: &version,
            certificate_providers: &BTreeSet::new(),
            trusted: false,
        };
        load(folder, &Texts, context, Instant::now())
    }

    #[test]
    fn what_was_saved_is_read_and_counts_as_unconfirmed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        assert!(read(&folder).unwrap().is_empty(), "nothing was saved yet");
        let all = [
            kept(Kind::Listener, "l|r|1"),
            kept(Kind::Cluster, "c|e|2"),
            kept(Kind::Cluster, "!d|e|3"),
        ];
        save(&folder, &all).unwrap();
        save(&folder, &all).unwrap();
        let read = read(&folder).unwrap();
        let names: Vec<&str> = read.keys().map(|(_, name)| &**name).collect();
        assert_eq!(names, ["l", "c"], "what is refused by now is left out");
        assert!(
            read.values()
                .all(|good| good.unconfirmed && &*good.version == "7")
        );
    }

    #[test]
    fn whatever_has_happened_to_the_file_it_is_survived() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), &[kept(Kind::Listener, "l|r|1")]).unwrap();
        let path = folder.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(read(folder.path()).is_err(), "{length} bytes");
        }
        for place in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[place] ^= 1;
            std::fs::write(&path, wrong).unwrap();
            assert!(read(folder.path()).is_err(), "byte {place}");
        }
    }
}
