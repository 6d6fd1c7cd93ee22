//! Named registers: what a command calls `f` or `ring`, and what the kernel gave for it.

use std::collections::BTreeMap;

use crate::reply::{Failure, usage};

/// Slots of one sort. A name is given once and is free again when the thing behind it is gone.
pub struct Slots<T> {
    noun: &'static str,
    taken: BTreeMap<String, T>,
}

impl<T> Slots<T> {
    pub fn new(noun: &'static str) -> Self {
        Self {
            noun,
            taken: BTreeMap::new(),
        }
    }

    /// Refuses a name that is in use, before the kernel is asked for anything.
    pub fn free(&self, name: &str) -> Result<(), Failure> {
        if self.taken.contains_key(name) {
            return usage(format!("{} `{name}` is in use", self.noun));
        }
        Ok(())
    }

    pub fn put(&mut self, name: &str, value: T) {
        self.taken.insert(name.to_owned(), value);
    }

    pub fn get(&self, name: &str) -> Result<&T, Failure> {
        self.taken.get(name).ok_or_else(|| self.unknown(name))
    }

    pub fn get_mut(&mut self, name: &str) -> Result<&mut T, Failure> {
        let unknown = self.unknown(name);
        self.taken.get_mut(name).ok_or(unknown)
    }

    pub fn take(&mut self, name: &str) -> Result<T, Failure> {
        let unknown = self.unknown(name);
        self.taken.remove(name).ok_or(unknown)
    }

    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.taken.retain(|_, value| keep(value));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.taken
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    pub fn clear(&mut self) {
        self.taken.clear();
    }

    /// The same names for the same things.
    pub fn copy(&self) -> Self
    where
        T: Copy,
    {
        Self {
            noun: self.noun,
            taken: self.taken.clone(),
        }
    }

    /// Frees the names that were taken `before` and are not in what is `left`.
    pub fn drop_those_lost(&mut self, before: &Self, left: &Self) {
        let is_lost =
            |name: &String| before.taken.contains_key(name) && !left.taken.contains_key(name);
        self.taken.retain(|name, _| !is_lost(name));
    }

    fn unknown(&self, name: &str) -> Failure {
        let known: Vec<_> = self.taken.keys().map(String::as_str).collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        Failure::Usage(format!("no {} `{name}`; there is: {known}", self.noun))
    }
}
