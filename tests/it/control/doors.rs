//! A server of this library that is configured by this library's control plane: what YAML says of
//! callers holds at a port that knows nothing of YAML.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use meshwork::control::{Limits, Store};
use meshwork::inbound::{Peer, Serving};
use meshwork::source::istio::Options;
use meshwork::source::xds::Bootstrap;
use meshwork::tls::{Connector, Credentials, Offer, Trust};
use meshwork::{Body, Mesh};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower::{Layer as _, service_fn};

use super::world::{PATIENCE, World};
use crate::tls::authority::{Authority, clock, leaf};

/// A folder, a control plane that serves it, and a server that asks the control plane.
struct Stage {
    folder: TempDir,
    address: SocketAddr,
    states: watch::Receiver<Option<Serving>>,
    _world: World,
    _mesh: Mesh,
}

async fn handler(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let peer = request.extensions().get::<Peer>();
    let principal = peer.and_then(|peer| peer.principal.as_ref());
    let text = principal.map_or_else(|| "nobody".to_owned(), ToString::to_string);
    Ok(Response::new(Body::from(text)))
}

impl Stage {
    /// `more`: further fields of the bootstrap; `labels` of the workload.
    async fn set(more: &str, labels: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mesh.yaml"), "").unwrap();
        let store = Store::follow(folder.path(), Options::default()).await;
        let world = World::start(store.unwrap(), Limits::default()).await;
        let bootstrap = format!(
            r#"{{"xds_servers": [{{"server_uri": "{}", "channel_creds": [{{"type": "insecure"}}]}}],
                "node": {{"id": "order-1", "metadata": {{"NAMESPACE": "my-app", "GENERATOR": "grpc",
                          "LABELS": {{"app": "order"{labels}}}}}}},
                "server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s"{more}}}"#,
            world.address
        );
        let mesh = Mesh::builder()
            .xds(Bootstrap::from_json(&bootstrap).unwrap())
            .start()
            .await
            .unwrap();
        let listener = mesh.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr();
        let (told, states) = watch::channel(None);
        let listener = listener.on_serving(move |state| drop(told.send(Some(state.clone()))));
        let service = mesh.inbound_layer().layer(service_fn(handler));
        tokio::spawn(listener.serve(service));
        Self {
            folder,
            address,
            states,
            _world: world,
            _mesh: mesh,
        }
    }

    /// The service of the port, and these objects.
    fn edit(&self, objects: &str) {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: order, namespace: my-app}}\nspec:\n  \
             selector: {{app: order}}\n  ports: [{{name: http, port: 80, targetPort: {}}}]\n{objects}",
            self.address.port()
        );
        let next = self.folder.path().join("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, self.folder.path().join("mesh.yaml")).unwrap();
    }

    async fn serving(&self) {
        let mut states = self.states.clone();
        let told = states.wait_for(|state| *state == Some(Serving::Serving));
        drop(
            tokio::time::timeout(PATIENCE, told)
                .await
                .expect("it serves"),
        );
    }

    /// The status in plain text, on a connection of its own; `None`: not let in.
    async fn plain(&self, path: &str) -> Option<u16> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        ask(stream, path).await.map(|(status, _)| status)
    }

    async fn until(&self, path: &str, expected: Option<u16>) {
        let reached = async {
            while self.plain(path).await != expected {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, reached).await;
        assert!(found.is_ok(), "{path} never became {expected:?}");
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> Option<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: order\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let text = String::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn policy(rest: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: order, namespace: my-app}}\nspec:\n  selector: {{matchLabels: {{app: order}}}}\n{rest}\n"
    )
}

#[tokio::test]
async fn a_policy_of_yaml_is_enforced_by_a_server_that_is_configured_over_xds() {
    let stage = Stage::set("", "").await;
    assert_eq!(stage.plain("/items").await, None, "no service has its port");
    stage.edit("");
    stage.serving().await;
    stage.until("/admin", Some(200)).await;
    stage.edit(&policy(
        "  action: DENY\n  rules: [{to: [{operation: {paths: [/admin*]}}]}]",
    ));
    stage.until("/admin", Some(403)).await;
    assert_eq!(stage.plain("/items").await, Some(200));
    // Another writing of the same path is no way around.
    assert_eq!(stage.plain("/%61dmin").await, Some(400));
    stage.edit(&policy(
        "  rules: [{to: [{operation: {methods: [GET], paths: [/items]}}]}]",
    ));
    stage.until("/other", Some(403)).await;
    assert_eq!(stage.plain("/items").await, Some(200));
    // What gRPC's configuration cannot say denies: nobody verifies tokens there.
    stage.edit(&policy(
        "  rules: [{from: [{source: {requestPrincipals: ['*']}}]}]",
    ));
    stage.until("/items", Some(403)).await;
}

/// Real files are held against the real calendar: until 2036.
fn lasting(id: &str) -> rcgen::CertificateParams {
    let mut params = leaf(id);
    params.not_after = rcgen::date_time_ymd(2036, 1, 1);
    params
}

#[tokio::test]
async fn strict_mutual_tls_of_yaml_and_its_principals_hold_over_xds() {
    let mut root = Authority::new("root");
    let files = tempfile::tempdir().unwrap();
    let at = files.path();
    let own = root.sign(lasting("spiffe://cluster.local/ns/my-app/sa/order"));
    std::fs::write(at.join("tls.crt"), &own.chain).unwrap();
    std::fs::write(at.join("tls.key"), &own.key).unwrap();
    std::fs::write(at.join("ca.crt"), root.pem()).unwrap();
    let at = at.display();
    let providers = format!(
        r#", "certificate_providers": {{"default": {{"plugin_name": "file_watcher", "config": {{
            "certificate_file": "{at}/tls.crt", "private_key_file": "{at}/tls.key",
            "ca_certificate_file": "{at}/ca.crt"}}}}}}"#
    );
    let stage = Stage::set(&providers, r#", "security.istio.io/tlsMode": "istio""#).await;
    let strict = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                  metadata: {name: default, namespace: my-app}\nspec: {mtls: {mode: STRICT}}\n";
    let policy =
        policy("  rules: [{from: [{source: {principals: [cluster.local/ns/my-app/sa/web]}}]}]");
    stage.edit(&format!("{strict}{policy}"));
    stage.serving().await;
    let mut call = async |id: &str| {
        let identity = root.sign(lasting(id)).identity();
        let trust = Trust::default().with_domain("cluster.local".parse().unwrap(), root.bundle());
        let own = Credentials::new(Some(identity), trust);
        let tls = crate::tls::handshakes::mesh_tls();
        let connector = Connector::new(&tls, Some(own.clone()), own, clock());
        let stream = TcpStream::connect(stage.address).await.unwrap();
        let stream = connector
            .connect(stream, "order", Offer::Http1)
            .await
            .ok()?;
        ask(stream, "/").await
    };
    let web = "spiffe://cluster.local/ns/my-app/sa/web";
    assert_eq!(call(web).await, Some((200, web.to_owned())));
    let other = call("spiffe://cluster.local/ns/my-app/sa/other").await;
    assert_eq!(other.map(|(status, _)| status), Some(403));
    assert_eq!(stage.plain("/").await, None, "not one byte in plain text");
}
