//! `--stdin`: one mesh for many lines.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::super::process::{PATIENCE, meshwork};
use super::{article, echo, service};

struct Conversation {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Conversation {
    fn start(folder: &tempfile::TempDir, flags: &[&str]) -> Self {
        let config = folder.path().to_str().expect("UTF-8");
        let mut command = meshwork(&["call", "--stdin", "--config", config]);
        command.args(["--workload", "my-app/order-sa"]).args(flags);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        Self {
            input: child.stdin.take().expect("piped"),
            output: BufReader::new(child.stdout.take().expect("piped")).lines(),
            child,
        }
    }

    async fn say(&mut self, line: &str) -> Value {
        let line = format!("{line}\n");
        self.input
            .write_all(line.as_bytes())
            .await
            .expect("it reads");
        let answer = tokio::time::timeout(PATIENCE, self.output.next_line());
        let answer = answer.await.expect("in time").expect("text");
        serde_json::from_str(&answer.expect("a result for each line")).expect("JSON")
    }

    async fn end(mut self) -> Option<i32> {
        drop(self.input);
        let status = tokio::time::timeout(PATIENCE, self.child.wait());
        status.await.expect("it ends").expect("waited for").code()
    }
}

#[tokio::test]
async fn each_line_has_a_result_of_its_own() {
    let one = echo(&["--name", "one"]).await;
    let folder = service("http", &[one.address], "");
    let mut call = Conversation::start(&folder, &["http://one/"]);
    let result = call.say(r#"{"n": 3}"#).await;
    assert_eq!(
        (&result["sent"], &result["by_name"]["one"]),
        (&3.into(), &3.into())
    );
    assert!(result["last_error"].is_null());

    let result = call
        .say(r#"{"url": "http://127.0.0.1:1/", "timeout": "2s"}"#)
        .await;
    assert_eq!((&result["sent"], &result["failed"]), (&1.into(), &1.into()));
    let error = result["last_error"].as_str().expect("a text");
    assert!(error.contains("could not connect"), "{error}");

    let grpc = format!(
        r#"{{"grpc": "{}/a.B/C", "data_hex": "0a0178"}}"#,
        one.address
    );
    let result = call.say(&grpc).await;
    assert_eq!(result["by_grpc_status"]["0"], 1, "{result}");
    assert_eq!(call.end().await, Some(0));
}

#[tokio::test]
async fn a_wrong_line_has_a_result_too_and_the_next_one_is_served() {
    let one = echo(&[]).await;
    let folder = service("http", &[one.address], "");
    let mut call = Conversation::start(&folder, &[]);
    let result = call.say(r#"{"urls": "http://one/"}"#).await;
    assert_eq!(result["sent"], 0);
    let error = result["last_error"].as_str().expect("a text");
    assert!(
        error.starts_with("line 1: urls: unknown; allowed are"),
        "{error}"
    );
    assert_eq!(call.say(r#"{"url": "http://one/"}"#).await["ok"], 1);
    assert_eq!(call.end().await, Some(2));
}

#[tokio::test]
async fn an_edit_is_in_force_and_ejections_outlive_it() {
    let echoes = [
        echo(&["--name", "v1"]).await,
        echo(&["--name", "bad", "--status", "503"]).await,
        echo(&["--name", "v2"]).await,
    ];
    let folder = article("resilience", echoes.each_ref().map(|echo| echo.address));
    let mut call = Conversation::start(&folder, &["http://catalog/"]);
    let result = call.say(r#"{"n": 30}"#).await;
    assert_eq!(
        (&result["ok"], &result["ejections"]),
        (&30.into(), &1.into())
    );

    let routing = folder.path().join("routing.yaml");
    let text = std::fs::read_to_string(&routing).expect("the routing");
    std::fs::write(&routing, text.replace("timeout: 5s", "timeout: 4s")).expect("written");
    let looking = async {
        loop {
            let result = call.say(r#"{"n": 5}"#).await;
            assert_eq!(result["by_name"]["v1"], 5, "{result}");
            if result["generation"] == 2 {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .expect("the edit is seen");
    let result = call.say(r#"{"n": 30}"#).await;
    assert_eq!(
        (&result["retries"], &result["ejections"]),
        (&0.into(), &0.into())
    );
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupt_ends_it_while_it_waits_for_a_line() {
    let one = echo(&[]).await;
    let folder = service("http", &[one.address], "");
    let mut call = Conversation::start(&folder, &["http://one/"]);
    assert_eq!(call.say("{}").await["ok"], 1);
    let id = call.child.id().expect("it runs").to_string();
    let kill = tokio::process::Command::new("sh")
        .args(["-c", "kill -INT \"$0\"", &id])
        .status()
        .await;
    assert!(kill.expect("there is a shell").success());
    // Stdin stays open: nothing but the interrupt ends it.
    let status = tokio::time::timeout(PATIENCE, call.child.wait());
    let status = status.await.expect("it ends").expect("waited for");
    assert_eq!(status.code(), Some(130));
}
