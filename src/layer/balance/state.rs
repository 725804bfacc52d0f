//! What a balancer picks from: members, who of them can be picked, and tables of hashes.
//!
//! A value that is swapped in as a whole, so that a pick sees members, pools and tables of one
//! moment. Whoever makes the next one shares with it what stays.

use std::sync::Arc;

use tokio::time::Instant;

use super::hash::Table;
use super::index::{Anew, Index};
use super::slots::Slots;
use super::{Candidate, Rules};

/// Members at one moment.
#[derive(Debug)]
pub(super) struct State<E> {
    pub(super) members: Slots<E>,
    pub(super) index: Index,
    /// One for each priority, if picks are by hash.
    pub(super) tables: Arc<[Table]>,
}

impl<E: Candidate> State<E> {
    pub(super) fn new(members: impl Iterator<Item = Arc<E>>, rules: &Rules, seed: u64) -> Self {
        let members = Slots::new(members);
        let index = Index::new(&members, rules, seed, None);
        let tables = tables(&members, &index, rules);
        Self {
            members,
            index,
            tables,
        }
    }

    /// Whether reported weights are to be looked at.
    pub(super) fn is_due(&self) -> bool {
        self.index.due.is_some_and(|due| due <= Instant::now())
    }

    /// After members have left and joined.
    pub(super) fn changed(
        &self,
        left: &[Arc<E>],
        joined: Vec<Arc<E>>,
        rules: &Rules,
        seed: u64,
    ) -> Self {
        if rules.is_ordered() {
            // Numbers are places in the list: nobody gets that of another one.
            let gone = |one: &Arc<E>| left.iter().any(|left| Arc::ptr_eq(left, one));
            let all = self.members.iter().map(|(_, member)| member);
            let kept = all.filter(|member| !gone(member)).cloned();
            return Self::new(kept.chain(joined), rules, seed);
        }
        let mut members = self.members.clone();
        let mut index = self.index.clone();
        let mut anew = Ok(());
        // Who comes is there before others go, so that a locality whose only member is replaced
        // is not given up.
        let joined: Vec<(u32, Arc<E>)> = joined
            .into_iter()
            .filter_map(|member| {
                let number = members.insert(member.clone())?;
                anew = anew.and_then(|()| index.join(number, &*member, rules));
                Some((number, member))
            })
            .collect();
        let left: Vec<(u32, &Arc<E>)> = left
            .iter()
            .filter_map(|member| Some((self.members.number(member)?, member)))
            .collect();
        let tiers: Vec<_> = left
            .iter()
            .map(|(number, _)| self.index.tier_of(*number))
            .collect();
        for (number, _) in &left {
            anew = anew.and_then(|()| index.leave(*number, rules));
            members.remove(*number);
        }
        if anew == Err(Anew) || members.is_sparse() {
            let members = members.iter().map(|(_, member)| member.clone());
            return Self::new(members, rules, seed);
        }
        index.settle(rules);
        let tables = if self.tables.is_empty() {
            self.tables.clone()
        } else {
            let changed: Option<Arc<[Table]>> = (0..)
                .zip(&*self.tables)
                .map(|(tier, table)| {
                    let gone = left
                        .iter()
                        .zip(&tiers)
                        .filter(|(_, own)| **own == Some(tier));
                    let gone: Vec<_> = gone
                        .map(|((number, member), _)| (*number, &***member))
                        .collect();
                    let come = joined
                        .iter()
                        .filter(|(number, _)| index.tier_of(*number) == Some(tier));
                    let come: Vec<_> = come.map(|(number, member)| (*number, &**member)).collect();
                    table.changed(&gone, &come)
                })
                .collect();
            changed.unwrap_or_else(|| tables(&members, &index, rules))
        };
        Self {
            members,
            index,
            tables,
        }
    }

    /// After the health of these members may have changed; `None` if it has not. Who is not there is
    /// not looked at.
    pub(super) fn reconsidered(
        &self,
        members: &[Arc<E>],
        rules: &Rules,
        seed: u64,
    ) -> Option<Self> {
        if rules.is_ordered() {
            let news = |member: &Arc<E>| {
                let number = self.members.number(member);
                number.is_some_and(|number| self.index.is_admitted(number) != member.admitted())
            };
            return members
                .iter()
                .any(news)
                .then(|| self.refreshed(rules, seed));
        }
        let mut index = self.index.clone();
        let mut news = false;
        for member in members {
            if let Some(number) = self.members.number(member) {
                news |= index.reconsider(number, &**member, rules);
            }
        }
        news.then(|| {
            index.settle(rules);
            self.with(index)
        })
    }

    /// After the health of any member may have changed, or reports have come in.
    pub(super) fn refreshed(&self, rules: &Rules, seed: u64) -> Self {
        if self.index.due.is_some() || rules.is_ordered() {
            // What one member weighs depends on what the others report, and its place on who is there.
            return self.with(Index::new(&self.members, rules, seed, Some(&self.index)));
        }
        let mut index = self.index.clone();
        for (number, member) in self.members.iter() {
            index.reconsider(number, &**member, rules);
        }
        index.settle(rules);
        self.with(index)
    }

    fn with(&self, index: Index) -> Self {
        Self {
            members: self.members.clone(),
            index,
            tables: self.tables.clone(),
        }
    }
}

fn tables<E: Candidate>(members: &Slots<E>, index: &Index, rules: &Rules) -> Arc<[Table]> {
    let groups = index.groups();
    let made: Vec<Table> = groups
        .filter_map(|groups| Table::new(&rules.balancing, members, &groups))
        .collect();
    match made.is_empty() {
        // Without hashes there is nothing to allocate.
        true => Arc::default(),
        false => made.into(),
    }
}

#[cfg(test)]
impl<E: Candidate> State<E> {
    /// Who can be picked how often, with keys for numbers: equal for states that pick alike.
    pub(super) fn picture(&self) -> Vec<String> {
        let name = |number: u32| {
            self.members
                .get(number)
                .map(|member| member.key().to_owned())
        };
        self.index.picture(name)
    }

    /// How many numbers have ever been used, and how many entries the tables have.
    pub(super) fn size(&self) -> (usize, usize) {
        let entries = self.tables.iter().map(|table| table.walk(0).count());
        (self.members.numbers(), entries.sum())
    }
}
