//! Commands that ask a running process, and those that help to begin.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::process::{Echo, PATIENCE, meshwork, run};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

async fn top(address: &str, count: &str, output: &str) -> std::process::Output {
    let flags = ["--interval", "50ms", "-n", count, "-o", output];
    run(&[&["top", address], &flags[..]].concat()).await
}

#[tokio::test]
async fn top_and_dump_show_a_process_that_runs() {
    let echo = Echo::start(&["--name", "v1"]).await;
    let url = format!("http://{}/", echo.address);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mesh = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: echo, namespace: my-app}}\n\
         spec:\n  hosts: [echo.test]\n  resolution: STATIC\n  ports: [{{name: http, number: 80, targetPort: {}}}]\n  \
         endpoints: [{{address: 127.0.0.1}}]\n",
        echo.address.port()
    );
    std::fs::write(folder.path().join("mesh.yaml"), mesh).expect("a file");
    let mesh = folder.path().to_str().expect("UTF-8");
    let flags = [
        "--config",
        mesh,
        "--duration",
        "1h",
        "--rate",
        "50",
        "--admin",
        "127.0.0.1:0",
    ];
    let mut call = meshwork(&[&["call"], &flags[..], &["http://echo.test/"]].concat());
    let mut call = call
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(call.stderr.take().expect("piped")).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line())
        .await
        .expect("in time");
    let line = line.expect("text").expect("a line");
    let address = line.strip_prefix("admin endpoint at http://").expect(&line);
    let output = top(address, "2", "json").await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let out = text(&output.stdout);
    assert_eq!(out.lines().count(), 2, "{out}");
    let rates = async {
        loop {
            let output = top(address, "1", "json").await;
            let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let cluster = &json["clusters"][0];
            if cluster["latency_ms"].as_f64() > Some(0.0) {
                return cluster.clone();
            }
        }
    };
    let cluster = tokio::time::timeout(PATIENCE, rates)
        .await
        .expect("in time");
    assert_eq!(cluster["cluster"], "outbound|80||echo.test");
    assert!(
        cluster["requests_per_second"].as_f64() > Some(0.0),
        "{cluster}"
    );
    let output = top(address, "2", "yaml").await;
    let out = text(&output.stdout);
    assert_eq!(out.matches("---\nclusters:").count(), 2, "{out}");
    let output = run(&["dump", address, "-o", "json"]).await;
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["generation"], 1);
    let request = ["--request", &url, "-H", "x-a: b c"];
    let output = run(&[&["explain", "--process", address], &request[..]].concat()).await;
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(said.contains("the host is passed through"), "{said}");
    let json = [
        &["explain", "--process", address, "-o", "json"],
        &request[..],
    ]
    .concat();
    let refused = run(&json).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("answers in text"));
    // It is no control plane, and says who is.
    let output = run(&["status", address]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("404") && said.contains("a control plane (--admin of meshwork serve)"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    let output = run(&["dump", address, "--node", "order-1"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("tells no streams"));
    call.kill().await.expect("it is killed");
}

#[tokio::test]
async fn a_process_that_is_not_there_is_told_with_what_to_do() {
    for command in ["top", "dump", "status", "certs"] {
        let output = run(&[command, "127.0.0.1:1"]).await;
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(said.contains("is it the admin endpoint"), "{said}");
        assert!(said.contains("Connection refused"), "{said}");
    }
}

/// An echo answers everything with JSON of its own.
#[tokio::test]
async fn who_is_no_admin_endpoint_is_told_so() {
    let echo = Echo::start(&[]).await;
    let address = echo.address.to_string();
    for (command, lacks) in [
        ("top", "clusters"),
        ("certs", "certificates"),
        ("status", "clients"),
    ] {
        let output = run(&[command, &address]).await;
        assert_eq!(output.status.code(), Some(1), "{command}");
        let said = text(&output.stderr);
        assert!(
            said.contains(&format!("tells no {lacks}; is it the admin endpoint of")),
            "{said}"
        );
    }
}

#[tokio::test]
async fn what_init_writes_has_no_error_and_is_not_overwritten() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("mesh");
    let path = path.to_str().expect("UTF-8");
    let output = run(&["init", path]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = run(&["check", path]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(
        text(&output.stdout).contains("0 errors, 0 warnings"),
        "{}",
        text(&output.stdout)
    );
    let request = [
        "--request",
        "GET http://catalog/items",
        "--from",
        "my-app/order-sa",
    ];
    let output = run(&[&["explain", path], &request[..]].concat()).await;
    let said = text(&output.stdout);
    assert!(
        said.contains("127.0.0.1:8081") && said.contains("127.0.0.1:8082"),
        "{said}"
    );
    let output = run(&["init", path]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("is there already"));
}

/// What is printed as YAML is what is printed as JSON.
#[tokio::test]
async fn commands_for_programs_speak_json_and_yaml() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("mesh");
    let path = path.to_str().expect("UTF-8");
    run(&["init", path]).await;
    let principal = "spiffe://cluster.local/ns/my-app/sa/order-sa";
    let can = [
        "can",
        principal,
        "GET",
        "/items",
        "--at",
        "my-app/catalog-v1",
    ];
    let request = ["--request", "GET http://catalog/items"];
    for (command, key) in [
        (vec!["check", path], "objects"),
        (vec!["diff", path, path], "requests"),
        (
            [&["authz"], &can[..], &["--config", path]].concat(),
            "allowed",
        ),
        ([&["explain", path], &request[..]].concat(), "outcomes"),
    ] {
        let json = run(&[&command[..], &["-o", "json"]].concat()).await;
        let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
        let yaml = run(&[&command[..], &["-o", "yaml"]].concat()).await;
        let yaml = text(&yaml.stdout);
        let value = json[key].to_string();
        let expected = format!("{key}: {value}");
        let scalar = !json[key].is_array() && !json[key].is_object();
        let found = yaml.lines().any(|line| match scalar {
            true => line == expected,
            false => line.starts_with(&format!("{key}:")),
        });
        assert!(
            !json[key].is_null() && found,
            "{command:?}: {key} in\n{yaml}"
        );
        assert!(!yaml.starts_with('{'), "{command:?}: {yaml}");
    }
}

#[tokio::test]
async fn faults_are_told_as_sarif() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = "apiVersion: v1\nkind: Service\nmetadata: {name: catalog}\nspec: {ports: 80}\n";
    std::fs::write(folder.path().join("a.yaml"), file).expect("a file");
    let path = folder.path().to_str().expect("UTF-8");
    let output = run(&["check", path, "-o", "sarif"]).await;
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["version"], "2.1.0");
    let run = &json["runs"][0];
    let result = &run["results"][0];
    assert_eq!(result["ruleId"], "M021");
    assert_eq!(result["level"], "error");
    let region = &result["locations"][0]["physicalLocation"]["region"];
    assert_eq!(
        (&region["startLine"], &region["startColumn"]),
        (&4.into(), &15.into())
    );
    let rule = result["ruleIndex"].as_u64().expect("an index") as usize;
    assert_eq!(run["tool"]["driver"]["rules"][rule]["id"], "M021");
}

#[tokio::test]
async fn completions_and_manual_pages_know_every_command() {
    let help = text(&run(&["--help"]).await.stdout);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() >= 10, "{help}");
    let bash = text(&run(&["completions", "bash"]).await.stdout);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().to_str().expect("UTF-8");
    assert_eq!(run(&["man", "--dir", dir]).await.status.code(), Some(0));
    for command in commands.iter().filter(|command| **command != "help") {
        assert!(bash.contains(command), "{command}");
        let page = folder.path().join(format!("meshwork-{command}.1"));
        assert!(page.exists(), "{}", page.display());
    }
    assert!(text(&run(&["man"]).await.stdout).contains(".TH meshwork 1"));
}
