//! The consumer of a pin: the driver or subsystem that asked for it, read off the stack.
//!
//! The rules are in [`lease_trace_common::consumer`].

use std::collections::HashMap;

use lease_trace_common::{
    STACK_LEN,
    consumer::{self, HELPER_MODULES, Is, MACHINERY_MODULES, RULES, Rule},
};

use super::symbols::{Error, Function, Symbols};

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    pub name: String,
    /// Through the RDMA core, so there is a device to it.
    pub rdma: bool,
}

/// What a function on the way to a pin says about who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// It is between the consumer and the pin, or ours.
    Machinery,
    /// It is the consumer of this name.
    Consumer(&'a str),
    /// It helps whoever called it, and is the consumer only if nothing outward is.
    Helper(&'a str),
    /// No rule knows it.
    Unknown,
}

impl<'a> Part<'a> {
    pub fn of(function: &Function<'a>) -> Self {
        match consumer::rule(function.name, function.module) {
            Some(rule) => match rule.is() {
                Is::Machinery => Self::Machinery,
                Is::Consumer => Self::Consumer(rule.name()),
                Is::Helper => Self::Helper(rule.name()),
            },
            None => function.module.map_or(Self::Unknown, Self::Consumer),
        }
    }
}

/// The consumers that are known by name, sorted; any other module is one, too.
pub fn known() -> Vec<&'static str> {
    let rules = RULES.iter().filter(|rule| rule.is() != Is::Machinery);
    let mut names: Vec<_> = rules.map(Rule::name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Reads the names of a stack's functions, innermost first; `None` for a frame without a name.
pub fn classify<'a>(frames: impl Iterator<Item = Option<Function<'a>>>) -> Option<Consumer> {
    let mut rdma = false;
    let mut found: Option<&str> = None;
    let mut helper: Option<&str> = None;
    let mut caller: Option<&str> = None;
    for function in frames.flatten() {
        rdma |= is_rdma(&function);
        if found.is_some() {
            continue;
        }
        match Part::of(&function) {
            Part::Machinery => {}
            Part::Consumer(name) => found = Some(name),
            Part::Helper(name) => helper = helper.or(Some(name)),
            Part::Unknown => caller = caller.or(Some(function.name)),
        }
    }
    let name = found.or(helper).or(caller)?;
    Some(Consumer {
        name: name.to_owned(),
        rdma,
    })
}

fn is_rdma(function: &Function<'_>) -> bool {
    function.name.starts_with("ib_")
        || function
            .module
            .is_some_and(|module| HELPER_MODULES.contains(&module))
}

/// Consumers by stack. A machine has few different ones, so each is read once.
#[derive(Default)]
pub struct Consumers {
    symbols: Option<Symbols>,
    known: HashMap<[u64; STACK_LEN], Option<Consumer>>,
}

/// More different stacks than any machine was seen to have: start again rather than grow.
const MOST_STACKS: usize = 4096;

impl Consumers {
    /// Whether the symbols can be read, so that what hinders it can be said beforehand. They are once
    /// the first stack is asked for.
    pub fn check(&self) -> Result<(), Error> {
        match self.symbols {
            Some(_) => Ok(()),
            None => Symbols::check(),
        }
    }

    fn prepare(&mut self) -> Result<(), Error> {
        if self.symbols.as_ref().is_none_or(Symbols::is_stale) {
            self.known.clear();
            self.symbols = None;
            self.symbols = Some(Symbols::load()?);
        }
        Ok(())
    }

    /// Names of the functions on a stack, innermost first, without those of tracing.
    pub fn names(&mut self, stack: &[u64; STACK_LEN]) -> Vec<String> {
        if stack[0] == 0 || self.prepare().is_err() {
            return Vec::new();
        }
        let Some(symbols) = &self.symbols else {
            return Vec::new();
        };
        functions(symbols, stack)
            .into_iter()
            .flatten()
            .filter(|function| !is_tracing(function))
            .map(|function| function.name.to_owned())
            .collect()
    }

    pub fn find(&mut self, stack: &[u64; STACK_LEN]) -> Option<Consumer> {
        if stack[0] == 0 {
            return None;
        }
        if let Some(known) = self.known.get(stack) {
            return known.clone();
        }
        // Symbols that cannot be read leave the consumer unknown; the start says why.
        self.prepare().ok()?;
        let symbols = self.symbols.as_ref()?;
        let consumer = classify(functions(symbols, stack).into_iter());
        if self.known.len() >= MOST_STACKS {
            self.known.clear();
        }
        self.known.insert(*stack, consumer.clone());
        consumer
    }
}

/// Tracing frames say nothing to anybody who reads a stack.
fn is_tracing(function: &Function<'_>) -> bool {
    match function.module {
        Some(module) => MACHINERY_MODULES.contains(&module),
        None => function.name.starts_with("bpf_") || function.name.starts_with("__bpf_"),
    }
}

/// The functions on a stack. All addresses but the first are return addresses: a call that is the
/// last thing in its function returns to the next one's first byte, so look at the byte before.
fn functions<'a>(symbols: &'a Symbols, stack: &[u64; STACK_LEN]) -> Vec<Option<Function<'a>>> {
    let addresses = stack.iter().take_while(|address| **address != 0);
    addresses
        .enumerate()
        .map(|(depth, address)| symbols.find(if depth == 0 { *address } else { address - 1 }))
        .collect()
}

#[cfg(test)]
mod consumer_tests;
