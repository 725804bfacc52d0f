//! `meshwork demo`, whole: it judges itself, and this judges that it said so.

use super::process::run;

#[tokio::test]
async fn every_scene_is_played_and_keeps_its_promise() {
    let output = run(&["demo", "--fast"]).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}\n{complained}");
    let scenes = [
        "1. Three backends, three protocols",
        "2. The canary",
        "3. The header",
        "4. Retries",
        "5. Ejection",
        "6. An edit",
        "7. A bad edit",
        "8. The comeback",
        "9. The timeout",
    ];
    let mut rest = said.as_str();
    for scene in scenes {
        let (_, after) = rest
            .split_once(scene)
            .unwrap_or_else(|| panic!("{scene}: {said}"));
        let acted = after.split("\n\n").next().expect("a first part");
        assert!(acted.contains("\n   ok "), "{scene} proves nothing: {said}");
        rest = after;
    }
    for part in [
        "grpc-status 0",
        "100.0 % to v2",
        "0 answered by v1-b",
        "unknown field \"atempts\"; did you mean \"attempts\"?",
        "per-try timeout of 800ms",
        "3 tries, ended after 2.",
        "All 15 promises were kept.",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert!(
        !said.contains('\u{1b}'),
        "plain lines where there is no terminal: {said}"
    );
    assert!(complained.is_empty(), "{complained}");
}
