//! The demo's YAML: the article's files with free ports, in a folder of their own.
//!
//! They are part of the binary, so that the demo runs from anywhere, and are the very files that
//! `examples/article/` shows: what the demo proves holds for what a reader sees there.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use super::pace::Pace;

const CATALOG: &str = include_str!("../../../../examples/article/canary/catalog.yaml");
const CANARY: &str = include_str!("../../../../examples/article/canary/routing.yaml");
const RESILIENCE: &str = include_str!("../../../../examples/article/resilience/routing.yaml");

/// The ports in the article's endpoints, in the order of the backends.
const PORTS: [&str; 3] = ["18081", "18082", "18083"];
/// The only destination of the article's second VirtualService, and two in its place.
const ALL_TO_V1: &str = "        subset: v1\n    retries:";
const HALF_TO_V2: &str = "        subset: v1\n      weight: 50\n    - destination:\n        host: catalog\n        subset: v2\n      weight: 50\n    retries:";

/// Which routing is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Routing {
    /// The article's first: 90/10, and the header.
    Canary,
    /// The article's second: all to v1, with retries and timeouts.
    Resilience,
    /// The second with half of the calls to v2.
    Halves,
    /// The same with a slip of the keyboard.
    Slip,
}

/// A folder that is removed with it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    pace: Pace,
}

impl Folder {
    /// A new folder with the canary and the services of these ports.
    pub(super) fn create(ports: [u16; 3], pace: Pace) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("meshwork-demo-{}", process::id()));
        fs::create_dir(&path)?;
        let folder = Self { path, pace };
        let mut catalog = CATALOG.to_owned();
        for (fixed, free) in PORTS.iter().zip(ports) {
            catalog = catalog.replace(fixed, &free.to_string());
        }
        fs::write(folder.path.join("catalog.yaml"), catalog)?;
        fs::write(folder.path.join("protocols.yaml"), protocols(ports[0]))?;
        folder.write(Routing::Canary)?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the routing in one step, as a careful editor does.
    pub(super) fn write(&self, routing: Routing) -> io::Result<()> {
        let text = self.pace.shorten(&text(routing));
        let beside = self.path.join(".routing.new");
        fs::write(&beside, text)?;
        fs::rename(beside, self.path.join("routing.yaml"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it is the temporary folder's to clean.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn text(routing: Routing) -> String {
    match routing {
        Routing::Canary => CANARY.to_owned(),
        Routing::Resilience => RESILIENCE.to_owned(),
        Routing::Halves => RESILIENCE.replace(ALL_TO_V1, HALF_TO_V2),
        Routing::Slip => text(Routing::Halves).replace("attempts: 3", "atempts: 3"),
    }
}

/// Two more services on a backend's port, whose port names ask for HTTP/2 and gRPC.
fn protocols(port: u16) -> String {
    let mut yaml = String::new();
    for (service, name) in [("catalog-h2", "http2"), ("catalog-grpc", "grpc")] {
        // Writing to a string cannot fail.
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {service}, namespace: my-app}}\n\
             spec: {{ports: [{{name: {name}, port: 80}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  \
             name: {service}\n  namespace: my-app\n  \
             labels: {{kubernetes.io/service-name: {service}}}\n\
             addressType: IPv4\nports: [{{name: {name}, port: {port}}}]\n\
             endpoints: [{{addresses: [127.0.0.1]}}]\n"
        );
    }
    yaml
}

#[cfg(test)]
mod tests {
    use meshwork::source::istio::{Options, check};

    use super::*;

    #[test]
    fn every_routing_differs_and_only_the_slip_has_an_error() {
        for pace in [Pace::new(true), Pace::new(false)] {
            let folder = Folder::create([1, 2, 3], pace).expect("a folder");
            let mut texts = std::collections::BTreeSet::new();
            for (routing, errors) in [
                (Routing::Canary, 0),
                (Routing::Resilience, 0),
                (Routing::Halves, 0),
                (Routing::Slip, 1),
            ] {
                folder.write(routing).expect("written");
                let path = folder.path().join("routing.yaml");
                assert!(texts.insert(fs::read_to_string(path).expect("text")));
                let faults = check(folder.path(), &[], &Options::default()).faults;
                assert_eq!(faults.errors(), errors, "{routing:?}: {faults}");
            }
        }
    }
}
