//! `meshwork check` and `meshwork schema` from outside.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::process::run;

const ARTICLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/article");

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("mesh.yaml"), text).expect("a file");
    folder
}

async fn check(path: &Path, flags: &[&str]) -> Output {
    let path = path.to_str().expect("UTF-8");
    run(&[&["check", path], flags].concat()).await
}

#[tokio::test]
async fn the_examples_have_no_errors() {
    for (name, warnings) in [("canary", "1 warning"), ("resilience", "4 warnings")] {
        let path = format!("{}/examples/article/{name}", env!("CARGO_MANIFEST_DIR"));
        let output = run(&["check", &path]).await;
        let said = text(&output.stdout);
        assert_eq!(code(&output), Some(0), "{said}");
        let last = format!("{path}: 9 objects, 0 errors, {warnings}\n");
        assert!(said.ends_with(&last), "{said}");
    }
}

#[tokio::test]
async fn faults_are_shown_all_at_once_with_place_and_hint() {
    let output = run(&["check", ARTICLE]).await;
    let said = text(&output.stdout);
    assert_eq!(code(&output), Some(1), "{said}");
    for part in [
        "all.yaml:41:1: error[M004]: a second object begins here",
        "  41 | apiVersion: networking.istio.io/v1beta1\n     | ^\n",
        "hint: add a line with --- before line 41",
        "error[M015]: virtualservice my-app/catalog: written twice, first at",
        "hint: remove one of them, or pass --on-duplicate last",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}

#[tokio::test]
async fn json_holds_the_same_faults() {
    let output = run(&["check", ARTICLE, "-o", "json"]).await;
    assert_eq!(code(&output), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let faults = json["faults"].as_array().expect("a list");
    let of = |severity| {
        faults
            .iter()
            .filter(|fault| fault["severity"] == severity)
            .count()
    };
    assert_eq!(json["errors"], of("error"));
    assert_eq!(json["warnings"], of("warning"));
    let first = faults.iter().find(|fault| fault["severity"] == "error");
    let first = first.expect("an error");
    assert_eq!(
        (&first["code"], &first["line"]),
        (&"M004".into(), &41.into())
    );
    assert_eq!(first["hint"], "add a line with --- before line 41");
    let twice = faults
        .iter()
        .find(|fault| fault["code"] == "M015")
        .expect("an object that stands there twice");
    assert_eq!(twice["object"]["namespace"], "my-app");
}

#[tokio::test]
async fn flags_turn_errors_into_warnings() {
    let unknown = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\n\
                   spec: {hosts: [a.example], ports: [{number: 80, name: http, protocol: HTTP}], \
                   resolution: STATIC, \
                   endpoints: [{address: 10.0.0.1}], colour: red}\n";
    let object = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\n";
    let twice = format!("{object}---\n{object}");
    let policy = "apiVersion: policy.linkerd.io/v1beta1\nkind: ServerAuthorization\n\
                  metadata: {name: a}\nspec: {}\n";
    for (yaml, flags) in [
        (unknown, &["--lenient"][..]),
        (&twice, &["--on-duplicate", "last"]),
        (policy, &["--allow-unenforced"]),
    ] {
        let folder = folder(yaml);
        let strict = check(folder.path(), &[]).await;
        assert_eq!(code(&strict), Some(1), "{}", text(&strict.stdout));
        let lenient = check(folder.path(), flags).await;
        let said = text(&lenient.stdout);
        assert_eq!(code(&lenient), Some(0), "{flags:?}: {said}");
        assert!(said.contains("warning["), "{flags:?}: {said}");
    }
}

#[tokio::test]
async fn faults_between_objects_are_seen_from_the_namespace_they_concern() {
    let folder = folder(
        "apiVersion: v1\nkind: Service\nmetadata: {name: catalog, namespace: shop}\n\
         spec: {ports: [{name: http, port: 80}]}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {name: catalog, namespace: shop}\n\
         spec: {hosts: [catalog], exportTo: ['.'], http: [{route: [{destination: {host: catalog, \
         subset: v9}}]}]}\n",
    );
    let says = async |flags: &[&str]| text(&check(folder.path(), flags).await.stdout);
    assert!(says(&[]).await.contains("v9"));
    assert!(says(&["--workload", "shop/order-sa"]).await.contains("v9"));
    assert!(!says(&["--workload", "other/order-sa"]).await.contains("v9"));
}

#[tokio::test]
async fn wrong_arguments_are_not_faults_of_the_configuration() {
    let empty = tempfile::tempdir().expect("a temporary folder");
    let empty = empty.path().to_str().expect("UTF-8");
    for (args, why) in [
        (&["check"][..], "required arguments"),
        (&["check", "no/such/folder"], "cannot read no/such/folder"),
        (&["check", empty], "holds no object"),
        (&["check", ARTICLE, "-o", "xml"], "invalid value 'xml'"),
        (
            &["check", ARTICLE, "--workload", "order"],
            "expected NAMESPACE/SERVICEACCOUNT",
        ),
        (
            &["check", ARTICLE, "--label", "order"],
            "expected KEY=VALUE",
        ),
        (&["schema", "extra"], "unexpected argument"),
        (&["chekc"], "unrecognized subcommand"),
    ] {
        let output = run(args).await;
        let said = text(&output.stderr);
        assert_eq!(code(&output), Some(2), "{args:?}: {said}");
        assert!(said.contains(why), "{args:?}: {said}");
    }
}

#[tokio::test]
async fn the_schema_is_that_of_the_library() {
    let output = run(&["schema"]).await;
    assert_eq!(code(&output), Some(0));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json, meshwork::source::istio::schema());
}
