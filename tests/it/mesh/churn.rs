//! Ten thousand endpoints of which one changes each millisecond, under load.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use meshwork::model::balancing::RingHash;
use meshwork::model::cluster::{Balancing, Protocol};
use meshwork::model::endpoint::{Endpoint, Health};
use meshwork::model::{Endpoints, Resources};
use meshwork::{Event, Mesh, Random};

use super::world::{Plan, World, call, cluster, counted, endpoints, get, millis, one, retries, to};

const ENDPOINTS: u16 = 10_000;

/// The cluster over the first ports, with retries of what could not be connected to.
fn begin(balancing: Balancing) -> Resources {
    let mut model = cluster("c", Protocol::Http2);
    model.balancing = balancing;
    let ports: Vec<u16> = (1..=ENDPOINTS).collect();
    one(model, &ports, |forward| {
        forward.retry = Some(retries(3, None))
    })
}

fn endpoint(port: u16) -> Endpoint {
    let made = endpoints("c", &[port]);
    made.localities[0].endpoints[0].clone()
}

/// Calls once each millisecond, like many callers would, until it is told to stop.
async fn keep_calling(mesh: Mesh, ends: Arc<AtomicBool>, calls: Arc<AtomicUsize>) {
    while !ends.load(Ordering::Relaxed) {
        let answer = call(&mesh, get("http://catalog/")).await;
        let (status, _) = answer.unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(status, 200);
        calls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(millis(1)).await;
    }
}

/// One endpoint leaves and its server with it, at once and without a word; another comes, of which
/// every eighth does not listen yet when it is announced.
fn change(world: &World, endpoints: &mut Arc<Endpoints>, turn: u16, random: &Random) {
    let new = ENDPOINTS + 1 + turn;
    if !turn.is_multiple_of(8) {
        world.named(new);
    }
    let list = &mut Arc::make_mut(endpoints).localities[0].endpoints;
    let old = random.below(u32::from(ENDPOINTS)) as usize;
    let gone = list.swap_remove(old).unwrap();
    list.push(endpoint(new));
    world.remove(port(&gone));
}

fn port(endpoint: &Endpoint) -> u16 {
    let text = endpoint.address.to_string();
    text.rsplit_once(':').unwrap().1.parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn f1_a_thousand_changes_a_second_among_ten_thousand_endpoints_fail_no_call() {
    const CHANGES: u16 = 1_000;
    let ring = RingHash::new(1_024, 100_000).unwrap();
    for balancing in [Balancing::LeastRequest, Balancing::RingHash(ring)] {
        let world = World::default();
        (1..=ENDPOINTS).for_each(|port| world.named(port));
        let resources = begin(balancing.clone());
        let mut endpoints = resources.endpoints["c"].clone();
        let (mesh, publisher) = world.mesh(resources).await;
        let (ends, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let callers: Vec<_> = (0..3)
            .map(|_| tokio::spawn(keep_calling(mesh.clone(), ends.clone(), calls.clone())))
            .collect();
        let random = Random::seeded(11);
        let mut versions: VecDeque<Weak<Endpoints>> = VecDeque::new();
        for turn in 0..CHANGES {
            change(&world, &mut endpoints, turn, &random);
            versions.push_back(Arc::downgrade(&endpoints));
            let generation = publisher
                .publish_endpoints(endpoints.clone())
                .await
                .unwrap();
            assert_eq!(generation, u64::from(turn) + 2);
            tokio::time::sleep(millis(1)).await;
        }
        ends.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.await.unwrap();
        }
        assert!(
            calls.load(Ordering::Relaxed) >= usize::from(CHANGES),
            "{calls:?}"
        );
        // What has left is gone: endpoints, their connections, the sets that named them.
        let stats = counted(&mesh, "c");
        assert_eq!(stats.endpoints.len(), usize::from(ENDPOINTS));
        let theirs: usize = stats.endpoints.iter().map(|one| one.connections).sum();
        assert_eq!(stats.connections as usize, theirs, "{balancing:?}");
        versions.pop_back();
        assert!(versions.iter().all(|version| version.strong_count() == 0));
    }
}

/// Weights, health and places in the list change, and of the endpoints only those that have another
/// address are other ones.
#[tokio::test(start_paused = true)]
async fn an_edit_of_endpoints_concerns_those_that_it_changes() {
    let world = World::default();
    (1..=6).for_each(|port| world.named(port));
    let resources = one(cluster("c", Protocol::Http2), &[1, 2, 3, 4], |_| {});
    let mut endpoints = resources.endpoints["c"].clone();
    let (mesh, publisher) = world.mesh(resources).await;
    let mut events = mesh.events();
    for _ in 0..200 {
        call(&mesh, get("http://catalog/")).await.unwrap();
    }
    let dialled = || (1..=4).map(|port| world.dials(port)).sum::<usize>();
    assert_eq!(dialled(), 4);
    let list = &mut Arc::make_mut(&mut endpoints).localities[0].endpoints;
    list.swap_remove(0);
    list[0].weight = NonZeroU32::new(7).unwrap();
    list[1].health = Health::Unhealthy;
    list.push(endpoint(5));
    let generation = publisher
        .publish_endpoints(endpoints.clone())
        .await
        .unwrap();
    assert_eq!((generation, mesh.generation()), (2, 2));
    let requests = |mesh: &Mesh| -> Vec<(String, u64)> {
        let all = counted(mesh, "c").endpoints.into_iter();
        all.map(|one| (one.address.to_string(), one.requests))
            .collect()
    };
    let before = requests(&mesh);
    for _ in 0..200 {
        call(&mesh, get("http://catalog/")).await.unwrap();
    }
    let after = requests(&mesh);
    assert_eq!(dialled(), 4, "those that stay keep their connections");
    let more: Vec<u64> = after
        .iter()
        .zip(&before)
        .map(|(one, old)| one.1 - old.1)
        .collect();
    // In the order of the edited list: 4 with weight 7, 2 unhealthy, 3, 5.
    let labels: Vec<_> = after.iter().map(|one| port_of(&one.0)).collect();
    assert_eq!(labels, [4, 2, 3, 5]);
    assert!(
        more[1] == 0 && more[0] > 100 && more[2] > 0 && more[3] > 0,
        "{more:?}"
    );
    // One is told of who came and went, and of nobody else.
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(events.next().await.unwrap().unwrap());
    }
    assert_eq!(told[0], Event::ConfigApplied { generation: 2 });
    assert!(matches!(&told[1], Event::EndpointDown { endpoint, .. } if port_of(endpoint) == 1));
    assert!(matches!(&told[2], Event::EndpointUp { endpoint, .. } if port_of(endpoint) == 5));
    // The same again is a generation and no change.
    let again = publisher.publish_endpoints(endpoints).await.unwrap();
    assert_eq!(
        events.next().await,
        Some(Ok(Event::ConfigApplied { generation: again }))
    );
}

fn port_of(label: &str) -> u16 {
    label.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// A whole set of which only endpoints differ is an edit of endpoints, whoever made it.
#[tokio::test(start_paused = true)]
async fn a_set_that_differs_in_endpoints_alone_leaves_the_rest_running() {
    let world = World::default();
    (1..=3).for_each(|port| world.named(port));
    let mut resources = Plan::default()
        .cluster(cluster("c", Protocol::Http1), &[1, 2])
        .host("catalog", vec![to("c", |_| {})])
        .build();
    let (mesh, publisher) = world.mesh(resources.clone()).await;
    for turn in 0..4_u64 {
        let ports = if turn % 2 == 0 { [2, 3] } else { [1, 2] };
        // Made from scratch: it shares nothing with the one before.
        resources.insert_endpoints(endpoints("c", &ports));
        assert_eq!(
            publisher.publish(resources.clone()).await.unwrap(),
            turn + 2
        );
        for _ in 0..40 {
            call(&mesh, get("http://catalog/")).await.unwrap();
        }
        let served = counted(&mesh, "c").endpoints;
        let ports_of: Vec<_> = served.iter().map(|one| port_of(&one.address)).collect();
        assert_eq!(ports_of, ports);
        assert!(served.iter().all(|one| one.requests > 0));
    }
    assert_eq!(world.dials(2), 1, "the one that stayed kept its connection");
    // A name that comes and one that goes are edits of more than endpoints.
    let gone = resources.endpoints.remove("c").unwrap();
    publisher.publish(resources.clone()).await.unwrap();
    assert!(counted(&mesh, "c").endpoints.is_empty());
    let error = call(&mesh, get("http://catalog/")).await.unwrap_err();
    assert!(error.to_string().contains("no healthy endpoint"), "{error}");
    publisher.publish_endpoints(gone).await.unwrap();
    call(&mesh, get("http://catalog/")).await.unwrap();
}
