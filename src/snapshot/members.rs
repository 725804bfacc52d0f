//! Clusters and who is in them: what runs goes on where an edit leaves it alone.
//!
//! A registry changes one endpoint at a time and tells all of them. What has changed is found by
//! comparing two lists that share what they have in common (see [`crate::list`]), and what is done
//! about it concerns only those endpoints: they join the detector, the balancer takes them in, and
//! who has left is let go. So one endpoint among ten thousand costs what one costs.
//!
//! An edit of endpoints alone changes the cluster that is in force, in place ([`renew`]): routes
//! lead to it as before, and a request that has not picked yet picks among the new ones. An edit
//! that changes more makes a new cluster beside the old one, since a request that was routed by the
//! configuration before shall find the endpoints that it had.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::changes::{Moves, once_each};
use super::cluster::{Cluster, Running};
use super::difference::{Entry, difference, entries};
use super::endpoint::{Commons, Endpoint, Member};
use super::health::{Age, Checks};
use super::link::Environment;
use super::on_demand::OnDemand;
use super::overload::Overloads;
use super::reports::{self, Reports};
use super::security;
use super::series::{Counted, EndpointLabels, series};
use crate::layer::balance::{Balancer, Rules};
use crate::layer::limit::Limits;
use crate::layer::outlier::Detector;
use crate::layer::retry::Quota;
use crate::model;
use crate::model::endpoint::{Address, Health};
use crate::telemetry::Series;
use crate::transport::{Secure, Settings};

/// The cluster of `model` with these endpoints, going on from the one before.
pub(super) fn cluster(
    old: Option<&Arc<Cluster>>,
    model: &Arc<model::Cluster>,
    endpoints: Option<&Arc<model::Endpoints>>,
    environment: &Environment,
    moves: &mut Moves,
) -> Arc<Cluster> {
    if let Some(old) = old
        && old.model == *model
        && old.endpoints.load().as_ref() == endpoints
    {
        return old.clone();
    }
    let running = match old {
        Some(old) => {
            let running = old.running.clone();
            running.limits.set(&model.limits);
            running
        }
        None => Arc::new(Running {
            limits: Arc::new(Limits::new(&model.limits)),
            detector: Detector::new(model.outlier.clone()),
            swept: Mutex::default(),
            counters: Arc::default(),
            checks: Checks::default(),
            reports: Reports::default(),
            events: environment.events.clone(),
            starved: AtomicBool::new(false),
        }),
    };
    let secure = match old {
        Some(old) if old.model.security == model.security => old.secure.clone(),
        Some(_) | None => security::secure(&model.security, environment),
    };
    let suits = |old: &&Arc<Cluster>| {
        old.model.security == model.security
            && Settings::from(&*old.model) == Settings::from(&**model)
    };
    let suited = old.filter(suits);
    let commons = match suited {
        Some(old) => old.commons.clone(),
        None => Commons::new(model, secure.as_ref(), &running, environment),
    };
    let maker = Maker {
        model,
        commons: &commons,
        secure: &secure,
        running: &running,
        environment,
    };
    let rules = rules(model);
    let balancer = match old {
        Some(old) if *old.balancer.rules() == rules && suited.is_some() => {
            let balancer = old.balancer.fork();
            let before = old.endpoints.load();
            maker.change(
                &balancer,
                before.as_deref(),
                endpoints.map(|one| &**one),
                moves,
            );
            balancer
        }
        old => {
            let members = maker.all(old, suited.is_some(), endpoints);
            maker.compare(old, &members, moves);
            let age = if old.is_some() { Age::Known } else { Age::New };
            maker.check(once_each(&members), age);
            running.reports.set(model, once_each(&members), environment);
            match old {
                Some(old) => old.balancer.succeed(rules, members),
                None => Balancer::new(rules, members, &environment.random),
            }
        }
    };
    if let Some(old) = old {
        maker.take_over(old, &balancer);
    }
    let overloads = match old {
        Some(old) => Overloads::succeeding(&old.overloads),
        None => Overloads::default(),
    };
    overloads.set(endpoints.map_or(&[], |endpoints| &endpoints.overloads));
    Arc::new(Cluster {
        leaves: Vec::new(),
        overloads,
        model: model.clone(),
        endpoints: ArcSwapOption::new(endpoints.cloned()),
        balancer,
        quota: match old {
            Some(old) => old.quota.with_limit(model.limits.retries),
            None => Quota::new(model.limits.retries),
        },
        running,
        series: series(model, &EndpointLabels::new(), environment),
        on_demand: OnDemand::of(&model.discovery),
        secure,
        commons,
    })
}

/// The aggregate of `model` over these clusters, going on from the one before.
pub(super) fn aggregate(
    old: Option<&Arc<Cluster>>,
    model: &Arc<model::Cluster>,
    leaves: Vec<Arc<Cluster>>,
    environment: &Environment,
    moves: &mut Moves,
) -> Arc<Cluster> {
    let same = |old: &&Arc<Cluster>| {
        let mut pairs = old.leaves.iter().zip(&leaves);
        old.model == *model
            && old.leaves.len() == leaves.len()
            && pairs.all(|(one, other)| Arc::ptr_eq(one, other))
    };
    if let Some(old) = old.filter(same) {
        return old.clone();
    }
    let mut made = cluster(old, model, None, environment, moves);
    match Arc::get_mut(&mut made) {
        Some(made) => made.leaves = leaves,
        // The one before, which was made of the same model over other clusters.
        None => {
            made = Arc::new(Cluster {
                leaves,
                model: made.model.clone(),
                endpoints: ArcSwapOption::empty(),
                balancer: made.balancer.fork(),
                quota: made.quota.with_limit(model.limits.retries),
                running: made.running.clone(),
                series: made.series.clone(),
                overloads: Overloads::default(),
                on_demand: None,
                secure: made.secure.clone(),
                commons: made.commons.clone(),
            });
        }
    }
    made
}

/// Puts other endpoints in force in a cluster that stays as it is otherwise.
pub(super) fn renew(
    cluster: &Cluster,
    endpoints: &Arc<model::Endpoints>,
    environment: &Environment,
    moves: &mut Moves,
) {
    let before = cluster.endpoints.swap(Some(endpoints.clone()));
    cluster.overloads.set(&endpoints.overloads);
    let Cluster {
        model,
        running,
        secure,
        commons,
        ..
    } = cluster;
    let maker = Maker {
        model,
        commons,
        secure,
        running,
        environment,
    };
    maker.change(&cluster.balancer, before.as_deref(), Some(endpoints), moves);
}

fn rules(model: &model::Cluster) -> Rules {
    Rules {
        balancing: model.balancing.clone(),
        spread: model.spread,
        panic_threshold: model.panic_threshold,
    }
}

/// Makes members of a cluster.
struct Maker<'a> {
    model: &'a model::Cluster,
    commons: &'a Commons,
    secure: &'a Option<Arc<dyn Secure>>,
    running: &'a Arc<Running>,
    environment: &'a Environment,
}

impl<'a> Maker<'a> {
    /// Whether connections to an endpoint are encrypted.
    fn secures(&self, entry: &Entry<'_>) -> bool {
        self.secure.is_some() && security::wanted(&self.model.security, entry.meshed)
    }

    /// Whether an endpoint is connected to, and known, as this entry says.
    fn runs(&self, entry: &Entry<'_>, endpoint: &Endpoint) -> bool {
        endpoint.secured() == self.secures(entry) && endpoint.hostname() == entry.hostname
    }

    fn counted(&self) -> Counted<'_> {
        Counted::new(self.model, self.environment)
    }

    /// Takes a balancer from one set of endpoints to the next.
    fn change(
        &self,
        balancer: &Balancer<Member>,
        before: Option<&model::Endpoints>,
        after: Option<&model::Endpoints>,
        moves: &mut Moves,
    ) {
        let (left, joined) = difference(before, after);
        // Two entries may be alike, and then two members are.
        let mut leaving: Vec<Arc<Member>> = Vec::with_capacity(left.len());
        let mut taken = HashSet::new();
        for entry in &left {
            let named = balancer.all_named(&entry.address.to_string());
            let found = named.into_iter().find(|member| {
                let runs = self.runs(entry, &member.endpoint);
                entry.is(member) && runs && taken.insert(Arc::as_ptr(member))
            });
            leaving.extend(found);
        }
        let mut running = HashMap::new();
        let mut joining = Vec::with_capacity(joined.len());
        let mut counted = self.counted();
        for entry in &joined {
            let known = balancer.all_named(&entry.address.to_string());
            if known.is_empty() && !running.contains_key(entry.address) {
                let endpoint = Arc::new(self.endpoint(entry, None));
                self.running.detector.join(&endpoint.record.host);
                moves.up.push(endpoint.clone());
                running.insert(entry.address, endpoint);
            }
            let endpoint = self.run(entry, known.iter(), &mut running);
            let known = known.first().map(|known| &**known);
            joining.push(member(entry, endpoint, known, counted.series(entry.labels)));
        }
        if self.model.health_check.is_some() {
            // Before they can be picked: who comes is not used before its first check.
            let gone: HashSet<_> = leaving.iter().map(Arc::as_ptr).collect();
            let mut after = balancer.members();
            after.retain(|member| !gone.contains(&Arc::as_ptr(member)));
            after.extend(joining.iter().cloned());
            self.check(once_each(&after), Age::Known);
        }
        balancer.change(&leaving, joining);
        if balancer.is_ordered() {
            let places: HashMap<&Address, usize> = entries(after)
                .enumerate()
                .map(|(place, entry)| (entry.address, place))
                .collect();
            let last = || places.len();
            balancer.arrange(|member| {
                let own = places.get(member.endpoint.address());
                own.copied().unwrap_or_else(last)
            });
        }
        if reports::wanted(self.model).is_some() {
            let members = balancer.members();
            let reports = &self.running.reports;
            reports.set(self.model, once_each(&members), self.environment);
        }
        for endpoint in once_each(&leaving) {
            let left = balancer.all_named(endpoint.label());
            if left.is_empty() {
                self.running.detector.leave(&endpoint.record.host);
                moves.down.push(endpoint);
            } else if !left
                .iter()
                .any(|member| Arc::ptr_eq(&member.endpoint, &endpoint))
            {
                moves.replaced.push(endpoint);
            }
        }
    }

    /// Has these endpoints checked, and no others: O(endpoints), as each has a task of its own.
    fn check(&self, endpoints: impl Iterator<Item = Arc<Endpoint>>, age: Age) {
        let endpoints: Vec<_> = endpoints.collect();
        let Running {
            checks, counters, ..
        } = &**self.running;
        checks.set(
            self.model,
            endpoints.iter(),
            counters,
            self.secure.as_ref(),
            self.environment,
            age,
        );
    }

    /// Brings the policies of health in force where they are other ones than those of `old`.
    fn take_over(&self, old: &Cluster, balancer: &Balancer<Member>) {
        let ejects = old.model.outlier != self.model.outlier;
        let checks = old.model.health_check != self.model.health_check;
        if !ejects && !checks {
            return;
        }
        let members = balancer.members();
        if ejects {
            let hosts = members.iter().map(|member| &member.endpoint.record.host);
            // Without a policy all are readmitted, and the balancer has to hear of that.
            let policy = self.model.outlier.clone();
            let _ = self.running.detector.set(policy, hosts);
        }
        if checks {
            self.check(once_each(&members), Age::Known);
        }
        balancer.refresh();
    }

    /// The endpoint of an entry: the one that runs, if it can run on; `running` are those that were
    /// made before.
    fn run<'e, 'k>(
        &self,
        entry: &Entry<'e>,
        mut known: impl Iterator<Item = &'k Arc<Member>> + Clone,
        running: &mut HashMap<&'e Address, Arc<Endpoint>>,
    ) -> Arc<Endpoint> {
        let first = known.clone().next();
        if let Some(member) = known.find(|member| self.runs(entry, &member.endpoint)) {
            return member.endpoint.clone();
        }
        let made = running
            .get(entry.address)
            .filter(|endpoint| self.runs(entry, endpoint));
        if let Some(endpoint) = made {
            return endpoint.clone();
        }
        let before = match first {
            Some(member) => Some(&member.endpoint),
            None => running.get(entry.address),
        };
        let endpoint = Arc::new(self.endpoint(entry, before.map(|before| &**before)));
        running.insert(entry.address, endpoint.clone());
        endpoint
    }

    /// All members, in the order of the registry; `reusable`: the endpoints of the old cluster can
    /// run on as they are.
    fn all(
        &self,
        old: Option<&Arc<Cluster>>,
        reusable: bool,
        endpoints: Option<&Arc<model::Endpoints>>,
    ) -> Vec<Arc<Member>> {
        let members = old.map(|old| old.balancer.members()).unwrap_or_default();
        let before: HashMap<&Address, &Arc<Member>> = members
            .iter()
            .map(|member| (member.endpoint.address(), member))
            .collect();
        let mut running: HashMap<&Address, Arc<Endpoint>> = HashMap::new();
        let mut all = Vec::new();
        let mut counted = self.counted();
        for entry in entries(endpoints.map(|one| &**one)) {
            let known = before.get(entry.address).copied();
            let endpoint = match known {
                // Ejections outlive a change of settings; connections do not.
                Some(member) if !reusable => running
                    .entry(entry.address)
                    .or_insert_with(|| Arc::new(self.endpoint(&entry, Some(&member.endpoint))))
                    .clone(),
                known => self.run(&entry, known.into_iter(), &mut running),
            };
            let known = known.map(|known| &**known);
            all.push(member(
                &entry,
                endpoint,
                known,
                counted.series(entry.labels),
            ));
        }
        all
    }

    /// Tells the detector, and `moves`, who is there and who has left.
    fn compare(&self, old: Option<&Arc<Cluster>>, members: &[Arc<Member>], moves: &mut Moves) {
        let old = old.map(|old| old.balancer.members()).unwrap_or_default();
        let labels = |members: &[Arc<Member>]| -> HashSet<Arc<str>> {
            members
                .iter()
                .map(|member| member.endpoint.label().clone())
                .collect()
        };
        let (were, are) = (labels(&old), labels(members));
        let detector = &self.running.detector;
        let mut kept = HashSet::new();
        for endpoint in once_each(members) {
            detector.join(&endpoint.record.host);
            kept.insert(Arc::as_ptr(&endpoint));
            if !were.contains(endpoint.label()) {
                moves.up.push(endpoint);
            }
        }
        for endpoint in once_each(&old) {
            if !are.contains(endpoint.label()) {
                detector.leave(&endpoint.record.host);
                moves.down.push(endpoint);
            } else if !kept.contains(&Arc::as_ptr(&endpoint)) {
                moves.replaced.push(endpoint);
            }
        }
    }

    /// One that runs from this moment on; what is known of the one `before` is known of it.
    fn endpoint(&self, entry: &Entry<'_>, before: Option<&Endpoint>) -> Endpoint {
        let reach = self.commons.of(self.secures(entry), entry.hostname);
        Endpoint::new(entry.address, &reach, before)
    }
}

/// A member; one that serves again after the registry said that it did not begins anew.
fn member(
    entry: &Entry<'_>,
    endpoint: Arc<Endpoint>,
    known: Option<&Member>,
    series: Arc<Series>,
) -> Arc<Member> {
    if entry.health == Health::Healthy && known.is_some_and(|was| was.health != Health::Healthy) {
        endpoint.record.signals.restart(Instant::now());
    }
    let said = (entry.weight, entry.health, entry.placement);
    Arc::new(Member::new(endpoint, said, series, entry.labels))
}
