//! One for all: `pick_first`.

use std::time::Duration;

use super::*;
use crate::model::balancing::PickFirst;

fn rules(shuffle: bool) -> Balancing {
    Balancing::PickFirst(PickFirst { shuffle })
}

fn one(balancer: &Balancer<Peer>) -> usize {
    let random = Random::seeded(3);
    let found = counts(&names(balancer, &random, 50));
    assert_eq!(found.len(), 1, "{found:?}");
    *found.keys().next().unwrap()
}

fn member(balancer: &Balancer<Peer>, name: usize) -> Arc<Peer> {
    let all = balancer.members();
    all.into_iter().find(|member| member.name == name).unwrap()
}

async fn lose(balancer: &Balancer<Peer>, name: usize) {
    tokio::time::advance(Duration::from_millis(1)).await;
    let (began, now) = (Instant::now() - Duration::from_millis(1), Instant::now());
    balancer.lost(&member(balancer, name).signals, began, now);
}

async fn reach(balancer: &Balancer<Peer>, name: usize) {
    tokio::time::advance(Duration::from_millis(1)).await;
    balancer.reached(&member(balancer, name).signals, Instant::now());
}

fn is_next_lost(balancer: &Balancer<Peer>) -> bool {
    balancer.was_lost(&member(balancer, one(balancer)).signals)
}

#[tokio::test(start_paused = true)]
async fn the_first_that_can_be_reached_gets_all_until_it_is_lost() {
    let (balancer, random) = balancer(rules(false), &[1, 9, 9, 9]);
    assert_eq!(one(&balancer), 0);
    lose(&balancer, 0).await;
    assert_eq!(one(&balancer), 1);
    lose(&balancer, 1).await;
    reach(&balancer, 2).await;
    assert_eq!(one(&balancer), 2);
    // Who was lost before is tried again, from the top, when the one in use is.
    lose(&balancer, 2).await;
    assert_eq!(one(&balancer), 0);
    for (lost, next) in [(0, 1), (1, 3)] {
        lose(&balancer, lost).await;
        assert_eq!(one(&balancer), next);
        assert!(!is_next_lost(&balancer));
    }
    // Nobody is left: whose turn was the longest ago is tried.
    for (lost, next) in [(3, 2), (2, 0), (0, 1)] {
        lose(&balancer, lost).await;
        assert_eq!(one(&balancer), next);
    }
    assert!(is_next_lost(&balancer));
    // Who began before it was found lost says nothing new.
    let began = Instant::now() - Duration::from_millis(5);
    balancer.lost(&member(&balancer, 1).signals, began, Instant::now());
    assert_eq!(one(&balancer), 1);
    // A try that avoids the first goes to the next in the order.
    let other = balancer.pick(&random, |peer| peer.name == 1).unwrap();
    assert_eq!(other.name, 3);
}

#[tokio::test(start_paused = true)]
async fn an_edit_and_another_try_move_nobody() {
    let (balancer, _) = balancer(rules(false), &[1; 3]);
    lose(&balancer, 0).await;
    reach(&balancer, 1).await;
    // A second try reached one that stands before it.
    reach(&balancer, 0).await;
    assert_eq!(one(&balancer), 1);
    let ahead = peer(7, 1, Placement::default());
    balancer.change(&[], vec![ahead]);
    balancer.arrange(|member| 10 - member.name);
    assert_eq!(one(&balancer), 1);
    let after = balancer.succeed(rules(false), balancer.members());
    assert_eq!(one(&after), 1);
    // The order is that of the edit.
    lose(&after, 1).await;
    assert_eq!(one(&after), 0, "it is connected");
    lose(&after, 0).await;
    assert_eq!(one(&after), 7);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_or_is_ejected_hands_over_to_the_next() {
    let (balancer, _) = balancer(rules(false), &[1; 3]);
    reach(&balancer, 0).await;
    member(&balancer, 0).put(true);
    assert_eq!(one(&balancer), 1);
    reach(&balancer, 1).await;
    member(&balancer, 0).put(false);
    balancer.refresh();
    assert_eq!(one(&balancer), 1, "who is back takes nothing away");
    balancer.change(&[member(&balancer, 1)], Vec::new());
    assert_eq!(one(&balancer), 0);
}

#[test]
fn each_client_has_an_order_of_its_own_by_weight_that_edits_keep() {
    let weights = [1, 2, 7];
    let mut found = Vec::new();
    for seed in 0..3_000 {
        let random = Random::seeded(seed);
        let balancer = Balancer::new(rules(true), peers(&weights), &random);
        let first = one(&balancer);
        found.push(first);
        if seed < 50 {
            let mut turned = peers(&weights);
            turned.reverse();
            assert_eq!(one(&balancer.succeed(rules(true), turned)), first);
        }
    }
    // The critical value of p = 0.001 for two degrees of freedom.
    let statistic = chi_square(&found, &weights);
    assert!(statistic < 13.82, "{statistic}");
}

#[test]
fn priorities_are_used_as_their_health_allows() {
    let mut members = vec![peer(0, 1, Placement::default())];
    let far = Placement {
        priority: 1,
        ..Placement::default()
    };
    members.extend([peer(1, 1, far), peer(2, 1, far)]);
    let balancer = Balancer::new(rules(false), members, &Random::seeded(1));
    assert_eq!(one(&balancer), 0);
    member(&balancer, 0).put(true);
    balancer.refresh();
    assert_eq!(one(&balancer), 1);
}
