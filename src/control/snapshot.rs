//! What one view of the mesh is served: a set of encoded resources per kind, immutable and shared.
//!
//! A snapshot is made of the one before it. What did not change is the same allocation, whole
//! [`Set`]s included, and a set knows by which names it differs from its parent. So a stream that
//! saw the parent looks at the names that changed and at nothing else, and one that saw an older
//! set compares everything once. That is also what makes a rewrite of equal content push nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::interned::Alike;
use super::introduction::Introductions;
use super::kind::Kind;
use super::resource::{Encoded, canonical};
use super::variant::{self, Constraints};

/// Finds resources that exist under any of many names, made when they are asked for.
///
/// An inbound listener contains the address that its client listens on, and a listener that is
/// asked for by a short name answers under that name: neither can be listed beforehand.
pub(super) trait Lookup: Send + Sync + std::fmt::Debug {
    /// The resource of that name. Equal names must yield equal content for the life of the value.
    fn find(&self, kind: Kind, name: &str) -> Option<Arc<Encoded>>;
}

/// Every resource of one view.
///
/// ```
/// use meshwork::control::{Encoded, Kind, Snapshot};
///
/// let one = Snapshot::new([Encoded::new(Kind::Cluster, "a", b"1")]);
/// let two = one.next([Encoded::new(Kind::Cluster, "a", b"1")]);
/// assert_eq!(one.version(Kind::Cluster), two.version(Kind::Cluster));
/// assert_eq!(two.get(Kind::Cluster, "a").unwrap().body(), b"1");
/// assert!(two.get(Kind::Cluster, "b").is_none());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    sets: [Arc<Set>; Kind::COUNT],
    lookup: Option<Arc<dyn Lookup>>,
    introductions: Arc<Introductions>,
    /// What streams of the view have in common, from snapshot to snapshot.
    alike: Arc<Alike>,
    /// What some nodes see; what of it this view does not have, others alone may see.
    reserved: Arc<Reserved>,
}

/// The names that only some nodes see, as streams ask for them. There is one of a content, for all its views:
/// a set of each view's own would be as large as all files of all nodes.
#[derive(Debug, Default)]
pub(super) struct Reserved(BTreeSet<(Kind, Arc<str>)>);

impl Reserved {
    /// Those of these resources, their aliases included.
    pub(super) fn of<'a>(resources: impl IntoIterator<Item = &'a Arc<Encoded>>) -> Self {
        let names = resources.into_iter().flat_map(|resource| {
            let names = resource.aliases().iter().chain([resource.name()]);
            names.map(|name| (resource.kind(), key(name)))
        });
        Self(names.collect())
    }
}

/// The name by which a stream asks, whatever its spelling.
fn key(name: &Arc<str>) -> Arc<str> {
    match canonical(name) {
        std::borrow::Cow::Borrowed(_) => name.clone(),
        std::borrow::Cow::Owned(name) => name.into(),
    }
}

/// Resources of one kind by their names.
#[derive(Debug, Default)]
struct Named {
    entries: BTreeMap<Arc<str>, Arc<Encoded>>,
    variants: Variants,
}

/// The variants of resources that have several, each in the order of their hashes: which one is found
/// must not depend on the order of files.
type Variants = BTreeMap<Arc<str>, Vec<Arc<Encoded>>>;

impl Named {
    fn insert(&mut self, name: Arc<str>, resource: Arc<Encoded>) {
        match resource.constraints() {
            Some(_) => self.variants.entry(name).or_default().push(resource),
            None => drop(self.entries.insert(name, resource)),
        }
    }

    /// Puts the variants in order, as allocations of those before where they are equal; who asks by a
    /// plain name gets the one that asks for no parameters.
    fn settle(&mut self, before: &Variants) {
        for (name, variants) in &mut self.variants {
            for variant in &mut *variants {
                let mut known = before.get(name).into_iter().flatten();
                if let Some(known) = known.find(|known| known.hash() == variant.hash()) {
                    *variant = known.clone();
                }
            }
            variants.sort_by_key(|variant| variant.hash());
            variants.dedup_by_key(|variant| variant.hash());
            if let Some(variant) = matching(variants, name)
                && !self.entries.contains_key(name)
            {
                self.entries.insert(name.clone(), variant.clone());
            }
        }
    }
}

/// The variant whose constraints the parameters in a key match.
fn matching<'v>(variants: &'v [Arc<Encoded>], key: &str) -> Option<&'v Arc<Encoded>> {
    let matches = |constraints: &Constraints| constraints.match_key(key);
    let mut variants = variants.iter();
    variants.find(|variant| variant.constraints().is_some_and(matches))
}

/// The resources of one kind.
#[derive(Debug, Default)]
pub(super) struct Set {
    entries: BTreeMap<Arc<str>, Arc<Encoded>>,
    variants: Variants,
    aliases: BTreeMap<Arc<str>, Arc<str>>,
    /// The wrapping sum of [`Encoded::hash`]: a hash of the set that can be added to.
    sum: u64,
    parent: Option<Parent>,
    mark: Arc<Mark>,
}

/// The set that one was made of, and the names by which they differ.
#[derive(Debug)]
struct Parent {
    mark: Arc<Mark>,
    changed: Vec<Arc<str>>,
}

/// The identity of a set. It outlives the set where somebody remembers it.
#[derive(Debug, Default)]
pub(super) struct Mark {
    // Not zero-sized: two marks never have one address.
    _address: u8,
}

/// How a set differs from one that was seen before.
#[derive(Debug)]
pub(super) enum Difference<'a> {
    /// Not at all.
    None,
    /// By these names at most.
    Names(&'a [Arc<str>]),
    /// It is not known; everything may differ.
    Unknown,
}

impl Snapshot {
    /// A snapshot of these resources. Of two with one kind and name the later is used.
    #[must_use]
    pub fn new(resources: impl IntoIterator<Item = Encoded>) -> Self {
        Self::default().next(resources)
    }

    /// The snapshot after this one. What is equal is kept, whatever its version label says.
    #[must_use]
    pub fn next(&self, resources: impl IntoIterator<Item = Encoded>) -> Self {
        self.with(resources.into_iter().map(Arc::new), None)
    }

    pub(super) fn with(
        &self,
        resources: impl IntoIterator<Item = Arc<Encoded>>,
        lookup: Option<Arc<dyn Lookup>>,
    ) -> Self {
        let mut kinds: [Named; Kind::COUNT] = Default::default();
        for resource in resources {
            kinds[resource.kind().index()].insert(key(resource.name()), resource);
        }
        // What a lookup finds may differ although nothing that is listed does.
        let found = self.lookup.is_some() || lookup.is_some();
        let mut sets = self.sets.clone();
        for ((set, entries), kind) in sets.iter_mut().zip(kinds).zip(Kind::ALL) {
            let touched = found && kind == Kind::Listener;
            if let Some(next) = set.next(entries, touched) {
                *set = Arc::new(next);
            }
        }
        Self {
            sets,
            lookup,
            introductions: Arc::default(),
            alike: self.alike.clone(),
            reserved: Arc::default(),
        }
    }

    /// The same, where these exist for some nodes. What it has itself exists for this one.
    pub(super) fn denying(self, reserved: Arc<Reserved>) -> Self {
        Self { reserved, ..self }
    }

    /// Whether a name, as streams ask for it, is not here and exists for others.
    pub(super) fn is_denied(&self, kind: Kind, name: &Arc<str>) -> bool {
        let reserved = &self.reserved.0;
        // A file reserves all variants of a name.
        let plain = |name: &Arc<str>| match variant::name(name) {
            whole if whole.len() == name.len() => name.clone(),
            part => part.into(),
        };
        !reserved.is_empty()
            && reserved.contains(&(kind, plain(name)))
            && self.get(kind, name).is_none()
    }

    /// A resource by its name or by an alias of it.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<Arc<Encoded>> {
        let set = self.set(kind);
        let listed = set.get(name).cloned();
        listed.or_else(|| self.lookup.as_ref()?.find(kind, variant::name(name)))
    }

    /// A hash of all resources of a kind, in hexadecimal: equal content has equal versions.
    #[must_use]
    pub fn version(&self, kind: Kind) -> String {
        version(self.set(kind).sum)
    }

    /// How many resources of a kind are listed.
    #[must_use]
    pub fn len(&self, kind: Kind) -> usize {
        self.set(kind).entries.len()
    }

    /// Whether there is nothing of any kind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sets.iter().all(|set| set.entries.is_empty())
    }

    /// The resources of a kind, in the order of their names.
    pub fn resources(&self, kind: Kind) -> impl Iterator<Item = &Arc<Encoded>> {
        self.set(kind).entries.values()
    }

    /// The introductions to routes of this snapshot, shared by all streams that need one.
    pub(super) fn introductions(&self) -> &Introductions {
        &self.introductions
    }

    pub(super) fn alike(&self) -> &Alike {
        &self.alike
    }

    pub(super) fn set(&self, kind: Kind) -> &Arc<Set> {
        &self.sets[kind.index()]
    }
}

impl Set {
    /// The set with these entries; `None`: this one has them already.
    fn next(&self, mut named: Named, touched: bool) -> Option<Self> {
        named.settle(&self.variants);
        let Named {
            mut entries,
            variants,
        } = named;
        let same_variant = |(one, other): (&Arc<Encoded>, &Arc<Encoded>)| Arc::ptr_eq(one, other);
        let touched = touched
            || !variants.keys().eq(self.variants.keys())
            || !variants
                .values()
                .zip(self.variants.values())
                .all(|(one, other)| {
                    one.len() == other.len() && one.iter().zip(other).all(same_variant)
                });
        let mut changed: Vec<Arc<str>> = Vec::new();
        for (name, entry) in &mut entries {
            match self.entries.get(name) {
                Some(old) if old.hash() == entry.hash() && old.version() == entry.version() => {
                    *entry = old.clone();
                }
                // A new label alone is told with the next push, and causes none.
                Some(old) if old.hash() == entry.hash() => {}
                _ => changed.push(name.clone()),
            }
        }
        let gone = self
            .entries
            .keys()
            .filter(|name| !entries.contains_key(*name));
        changed.extend(gone.cloned());
        let same = |(name, entry): (&Arc<str>, &Arc<Encoded>)| {
            self.entries
                .get(name)
                .is_some_and(|old| Arc::ptr_eq(old, entry))
        };
        if changed.is_empty() && !touched && entries.iter().all(same) {
            return None;
        }
        let sum = entries
            .values()
            .chain(variants.values().flatten())
            .fold(0, |sum: u64, entry| sum.wrapping_add(entry.hash()));
        let aliases = entries.iter().flat_map(|(name, entry)| {
            entry
                .aliases()
                .iter()
                .map(|alias| (key(alias), name.clone()))
        });
        Some(Self {
            aliases: aliases.collect(),
            sum,
            parent: Some(Parent {
                mark: self.mark.clone(),
                changed,
            }),
            mark: Arc::default(),
            entries,
            variants,
        })
    }

    /// By a name, an alias, or a [key](super::variant::key) of a name and parameters. What has no
    /// variants is for all parameters.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Encoded>> {
        let plain = variant::name(name);
        if plain.len() < name.len() {
            let variant = self.variants.get(plain).and_then(|all| matching(all, name));
            let whole = || self.get(plain).filter(|one| one.constraints().is_none());
            return variant.or_else(whole);
        }
        let direct = self.entries.get(name);
        direct.or_else(|| self.entries.get(self.aliases.get(name)?))
    }

    /// Whether there is something of exactly that name, with whatever parameters.
    pub(super) fn lists(&self, name: &str) -> bool {
        self.entries.contains_key(name) || self.variants.contains_key(name)
    }

    /// Every name, also of what has only variants that ask for parameters.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let variants = self.variants.keys();
        let variants = variants.filter(|name| !self.entries.contains_key(*name));
        self.entries.keys().chain(variants)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Encoded>)> {
        self.entries.iter()
    }

    /// The entries whose names begin so, for globs.
    pub(super) fn beginning<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Encoded>)> {
        let from = std::ops::Bound::Included(prefix);
        let range = self
            .entries
            .range::<str, _>((from, std::ops::Bound::Unbounded));
        range.take_while(move |(name, _)| name.starts_with(prefix))
    }

    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    pub(super) fn mark(&self) -> &Arc<Mark> {
        &self.mark
    }

    /// How it differs from the set of that mark.
    pub(super) fn since(&self, mark: &Arc<Mark>) -> Difference<'_> {
        if Arc::ptr_eq(mark, &self.mark) {
            return Difference::None;
        }
        match &self.parent {
            Some(parent) if Arc::ptr_eq(&parent.mark, mark) => Difference::Names(&parent.changed),
            _ => Difference::Unknown,
        }
    }
}

/// The text of a version that is a hash.
pub(super) fn version(hash: u64) -> String {
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::super::resource::Parts;
    use super::*;

    fn cluster(name: &str, body: &str) -> Encoded {
        Encoded::new(Kind::Cluster, name, body.as_bytes())
    }

    #[test]
    fn s21_equal_content_is_the_same_allocation_and_no_difference() {
        let one = Snapshot::new([cluster("a", "1"), cluster("b", "1")]);
        let two = one.next([cluster("b", "1"), cluster("a", "1")]);
        assert!(Arc::ptr_eq(one.set(Kind::Cluster), two.set(Kind::Cluster)));
        let three = two.next([cluster("a", "1"), cluster("b", "2")]);
        let (old, new) = (one.get(Kind::Cluster, "a"), three.get(Kind::Cluster, "a"));
        assert!(Arc::ptr_eq(&old.expect("a"), &new.expect("a")));
        match three
            .set(Kind::Cluster)
            .since(one.set(Kind::Cluster).mark())
        {
            Difference::Names([name]) => assert_eq!(&**name, "b"),
            other => panic!("{other:?}"),
        }
        assert!(Arc::ptr_eq(one.set(Kind::Routes), three.set(Kind::Routes)));
    }

    #[test]
    fn d11_restored_content_has_its_old_version() {
        let one = Snapshot::new([cluster("a", "1"), cluster("b", "1")]);
        let two = one.next([cluster("a", "2")]);
        assert_ne!(one.version(Kind::Cluster), two.version(Kind::Cluster));
        let three = two.next([cluster("b", "1"), cluster("a", "1")]);
        assert_eq!(one.version(Kind::Cluster), three.version(Kind::Cluster));
        let since = three
            .set(Kind::Cluster)
            .since(one.set(Kind::Cluster).mark());
        assert!(matches!(since, Difference::Unknown));
    }

    #[test]
    fn d21_a_name_of_others_is_one_in_any_order_of_its_parameters_and_under_its_aliases() {
        let of = |rest: &str| format!("xdstp://auth/envoy.config.cluster.v3.Cluster/a?{rest}");
        let mut parts = Parts::new(Kind::Cluster, of("y=2&x=1").into(), b"1");
        parts.aliases = vec![of("z=2&x=1").into()];
        let theirs = Arc::new(parts.finish());
        let reserved = Arc::new(Reserved::of([&theirs]));
        let mine = Snapshot::default().with([theirs], None);
        let mine = mine.denying(reserved.clone());
        let others = Snapshot::new([cluster("b", "1")]).denying(reserved);
        for name in ["x=1&y=2", "x=1&z=2"].map(|rest| Arc::from(of(rest))) {
            assert!(mine.get(Kind::Cluster, &name).is_some(), "{name}");
            assert!(!mine.is_denied(Kind::Cluster, &name), "{name}");
            assert!(others.is_denied(Kind::Cluster, &name), "{name}");
            assert!(!others.is_denied(Kind::Endpoints, &name), "of another kind");
        }
        assert!(!others.is_denied(Kind::Cluster, &"c".into()));
        let located = of("x=1&y=2") + "\0env\0canary";
        assert!(others.is_denied(Kind::Cluster, &located.into()));
    }

    #[test]
    fn removal_is_a_difference_and_an_alias_finds_its_resource() {
        let mut parts = Parts::new(Kind::VirtualHost, "r/a".into(), b"1");
        parts.aliases = vec!["r/b".into()];
        let one = Snapshot::new([parts.finish()]);
        assert_eq!(
            &**one.get(Kind::VirtualHost, "r/b").expect("found").name(),
            "r/a"
        );
        let two = one.next([]);
        assert!(two.is_empty());
        let since = two
            .set(Kind::VirtualHost)
            .since(one.set(Kind::VirtualHost).mark());
        assert!(matches!(since, Difference::Names([_])));
    }
}
