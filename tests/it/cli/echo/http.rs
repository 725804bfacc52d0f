//! Plain HTTP, both versions on one port.

use http::{Request, StatusCode, Version};
use http_body_util::BodyExt as _;
use serde_json::json;

use super::super::process::Echo;
use super::{body_of, http1, http2, request};

#[tokio::test]
async fn http1_is_answered_with_what_arrived() {
    let echo = Echo::start(&["--name", "v1"]).await;
    let get = Request::post("/items?q=1")
        .header("host", "catalog")
        .header("x-canary", "true")
        .header("x-two", "b")
        .header("x-two", "a")
        .header("x-envoy-attempt-count", "2");
    let mut sender = http1(echo.address).await;
    let response = sender
        .send_request(request(get, "hello"))
        .await
        .expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.version(), Version::HTTP_11);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(
        body_of(response).await,
        json!({
            "name": "v1",
            "protocol": "HTTP/1.1",
            "method": "POST",
            "path": "/items?q=1",
            "authority": "catalog",
            "headers": {
                "content-length": ["5"],
                "host": ["catalog"],
                "x-canary": ["true"],
                "x-envoy-attempt-count": ["2"],
                "x-two": ["b", "a"],
            },
            "attempt": 2,
            "body_bytes": 5,
        })
    );
    // The connection is kept.
    let again = request(Request::get("/").header("host", "catalog"), "");
    let response = sender.send_request(again).await.expect("a second answer");
    assert_eq!(body_of(response).await["attempt"], 1);
}

#[tokio::test]
async fn http2_is_answered_on_the_same_port() {
    let echo = Echo::start(&["--name", "v2"]).await;
    let mut sender = http2(echo.address).await;
    let put = request(Request::put("http://catalog.shop/items"), "hello");
    let response = sender.send_request(put).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    let body = body_of(response).await;
    assert_eq!(body["protocol"], "HTTP/2.0");
    assert_eq!(body["name"], "v2");
    assert_eq!(body["method"], "PUT");
    assert_eq!(body["authority"], "catalog.shop");
    assert_eq!(body["body_bytes"], 5);

    let head = request(Request::head("http://catalog.shop/items"), "");
    let response = sender.send_request(head).await.expect("an answer");
    assert_ne!(response.headers()["content-length"], "0");
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a whole body")
        .to_bytes();
    assert!(body.is_empty());
}
