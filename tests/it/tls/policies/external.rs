//! An authorizer of gRPC through the door.

use envoy_types::pb::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use envoy_types::pb::google::rpc::Status as RpcStatus;

use super::*;

/// Lets in who is `order`, by what the mesh says of the caller.
#[derive(Clone, Default)]
struct Decider(Arc<std::sync::Mutex<Vec<String>>>);

#[tonic::async_trait]
impl Authorization for Decider {
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let principal = attributes.source.map(|source| source.principal);
        let principal = principal.unwrap_or_default();
        let code = if principal == ORDER { 0 } else { 7 };
        self.0.lock().unwrap().push(principal);
        let status = RpcStatus {
            code,
            ..RpcStatus::default()
        };
        Ok(tonic::Response::new(CheckResponse {
            status: Some(status),
            ..CheckResponse::default()
        }))
    }
}

#[tokio::test]
async fn an_authorizer_over_grpc_is_told_who_calls_and_decides() {
    let decider = Decider::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let routes = tonic::service::Routes::new(AuthorizationServer::new(decider.clone()));
    let routes = routes.prepare();
    let serving = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper_util::service::TowerToHyperService::new(routes.clone());
            let io = hyper_util::rt::TokioIo::new(stream);
            connections.spawn(async move {
                let executor = hyper_util::rt::TokioExecutor::new();
                let http = hyper::server::conn::http2::Builder::new(executor);
                let _ = http.serve_connection(io, service).await;
            });
        }
    });
    let yaml = format!(
        "{STRICT}
---
mesh:
  extensionProviders:
  - name: decider
    envoyExtAuthzGrpc: {{service: decider.my-app.svc.cluster.local, port: 9000}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: decider, namespace: my-app}}
spec:
  hosts: [decider.my-app.svc.cluster.local]
  ports: [{{number: 9000, name: grpc, protocol: GRPC}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{grpc: {port}}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: ask, namespace: my-app}}
spec:
  action: CUSTOM
  provider: {{name: decider}}
  rules: [{{to: [{{operation: {{notPaths: [/open]}}}}]}}]
"
    );
    let mut domain = Domain::new();
    let server = server(&mut domain, &yaml).await;
    let order = client(
        domain.credentials(ORDER),
        server.http,
        Protocol::Http2,
        true,
    )
    .await;
    let other = client(
        domain.credentials(OTHER),
        server.http,
        Protocol::Http2,
        true,
    )
    .await;
    let items = || Request::get("http://catalog/items");
    assert_eq!(ask(&order, items()).await.0, StatusCode::OK);
    assert_eq!(ask(&other, items()).await.0, StatusCode::FORBIDDEN);
    let open = ask(&other, Request::get("http://catalog/open")).await;
    assert_eq!(open.0, StatusCode::OK, "nobody is asked about it");
    assert_eq!(*decider.0.lock().unwrap(), [ORDER, OTHER]);
    let grpc = client(
        domain.credentials(OTHER),
        server.grpc,
        Protocol::Http2,
        true,
    )
    .await;
    assert_eq!(
        check(&grpc, &[]).await.unwrap_err().0,
        Code::PermissionDenied
    );
    // Nobody is let in when the authorizer is away.
    serving.abort();
    let _ = serving.await;
    let closed = ask(&order, items()).await.0;
    assert_eq!(closed, StatusCode::FORBIDDEN);
}
