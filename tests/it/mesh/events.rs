//! What a listener hears.

use meshwork::model::cluster::Protocol;
use meshwork::model::limit::{Limits, RetryLimit};
use meshwork::model::outlier::Outlier;
use meshwork::{Event, Mesh};

use super::world::{World, call, cluster, get, one, retries, seconds};

async fn fail(mesh: &Mesh, times: usize) {
    for _ in 0..times {
        let (status, _) = call(mesh, get("http://catalog/")).await.unwrap();
        assert_eq!(status, 503);
    }
}

#[tokio::test(start_paused = true)]
async fn ejections_and_readmissions_are_told_with_endpoint_and_cause() {
    use meshwork::layer::outlier::Cause;
    let world = World::default();
    world.status(1, 503);
    let mut unstable = cluster("c", Protocol::Http1);
    unstable.outlier = Some(Outlier::default().into());
    let (mesh, _publisher) = world.mesh(one(unstable, &[1, 2], |_| {})).await;
    world.status(2, 503);
    let mut events = mesh.events();
    fail(&mesh, 10).await;
    let Some(Ok(Event::Ejected {
        cluster,
        endpoint,
        cause,
        time,
    })) = events.next().await
    else {
        panic!("no ejection");
    };
    assert_eq!(
        (&*cluster, cause, time),
        ("c", Cause::Consecutive5xx, seconds(30))
    );
    assert!(endpoint.starts_with("10.0.0.1:"), "{endpoint}");
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(
        events.next().await,
        Some(Ok(Event::Readmitted { cluster, endpoint }))
    );
}

#[tokio::test(start_paused = true)]
async fn an_empty_budget_is_told_once() {
    let world = World::default();
    world.status(1, 503);
    let mut poor = cluster("c", Protocol::Http1);
    poor.limits = Limits {
        retries: RetryLimit::Concurrent(0),
        ..Limits::default()
    };
    let resources = one(poor, &[1], |to| to.retry = Some(retries(1, None)));
    let (mesh, _publisher) = world.mesh(resources).await;
    let mut events = mesh.events();
    fail(&mesh, 20).await;
    let empty = Event::BudgetEmpty {
        cluster: "c".into(),
    };
    assert_eq!(events.next().await, Some(Ok(empty)));
    drop(mesh);
    drop(_publisher);
    assert_eq!(events.next().await, None, "it was the only one");
}

#[tokio::test(start_paused = true)]
async fn edits_tell_their_generation_and_the_endpoints_that_came_and_went() {
    let world = World::default();
    let with = |ports: &[u16]| one(cluster("c", Protocol::Http1), ports, |_| {});
    let (mesh, publisher) = world.mesh(with(&[1, 2])).await;
    let mut events = mesh.events();
    publisher.publish(with(&[2, 3])).await.unwrap();
    let (cluster, at) = (|| "c".into(), |port: u16| format!("10.0.0.1:{port}").into());
    for expected in [
        Event::ConfigApplied { generation: 2 },
        Event::EndpointDown {
            cluster: cluster(),
            endpoint: at(1),
        },
        Event::EndpointUp {
            cluster: cluster(),
            endpoint: at(3),
        },
    ] {
        assert_eq!(events.next().await, Some(Ok(expected)));
    }
}

#[cfg(feature = "yaml")]
#[tokio::test]
async fn a_bad_edit_of_a_folder_is_told_with_its_faults() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("a.yaml");
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";
    std::fs::write(&file, service).unwrap();
    let mesh = Mesh::builder().yaml(folder.path()).start().await.unwrap();
    let mut events = mesh.events();
    std::fs::write(&file, service.replace("80", "[]")).unwrap();
    let Some(Ok(Event::ConfigRejected { text })) = events.next().await else {
        panic!("no rejection");
    };
    assert!(text.contains("a.yaml"), "{text}");
}
