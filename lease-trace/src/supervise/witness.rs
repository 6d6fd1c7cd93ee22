//! Tells what slipped by: the zombies of the command's processes. Only where nobody else watches;
//! a monitor that is in place tells them itself.

use std::{cell::RefCell, collections::HashSet, rc::Rc};

use super::tell;
use crate::{
    enrich::{Names, cgroup::Cgroups, process},
    filter::Filter,
    proofs::Proofs,
    record::{Detail, Name, Record},
    session::Session,
    sinks::{Sink, WriteError, sentence},
    tracer::{self, Tracer, look},
};

/// The processes that were seen to run under the supervisor.
#[derive(Default)]
struct Tree {
    threads: HashSet<u32>,
    processes: HashSet<u32>,
}

/// What watches, if it is this process.
pub struct Witness {
    options: tracer::Options,
    own: Option<Own>,
    tree: Rc<RefCell<Tree>>,
}

struct Own {
    tracer: Tracer,
    session: Session,
    proofs: Proofs,
}

impl Witness {
    /// Uses what is in place; else watches itself. Must be called inside a tokio runtime.
    pub fn start(options: tracer::Options) -> anyhow::Result<Self> {
        let mut witness = Self {
            options,
            own: None,
            tree: Rc::default(),
        };
        if look::in_place()?.is_none() {
            witness.watch()?;
        }
        Ok(witness)
    }

    /// Nobody watches any more: from here on this process does. Pins that are older it does not
    /// know.
    pub fn stand_in(&mut self) -> anyhow::Result<()> {
        if self.own.is_none() && look::in_place()?.is_none() {
            tell::say(
                "what watched the leases has ended; they are watched from here on, and pins \
                 older than this are not known",
            );
            self.watch()?;
        }
        Ok(())
    }

    fn watch(&mut self) -> anyhow::Result<()> {
        let tracer = Tracer::start(self.options, None)?;
        for loss in tracer.cannot() {
            tell::say(&format!("not seen: {loss}"));
        }
        let cgroups = Cgroups::of_host();
        let sink = Sentences(Rc::clone(&self.tree));
        self.own = Some(Own {
            tracer,
            session: Session::new(
                Box::new(sink),
                Filter::default(),
                Names::new(cgroups),
                false,
            ),
            proofs: Proofs::default(),
        });
        Ok(())
    }

    /// A thread under the supervisor made a call.
    pub fn is_asked_by(&self, tid: u32) {
        let mut tree = self.tree.borrow_mut();
        if tree.threads.insert(tid)
            && let Some(tgid) = process::thread_group(tid)
        {
            tree.processes.insert(tgid);
        }
    }

    /// Waits for notifications.
    pub async fn next(&mut self) -> Vec<Vec<u8>> {
        match &mut self.own {
            Some(own) => own.tracer.next().await,
            None => std::future::pending().await,
        }
    }

    pub fn tell(&mut self, notifications: &[Vec<u8>]) -> anyhow::Result<()> {
        if let Some(own) = &mut self.own {
            // Without rules nobody is asked to do anything.
            own.session.batch(notifications)?;
        }
        Ok(())
    }

    pub fn tick(&mut self) -> anyhow::Result<()> {
        if let Some(own) = &mut self.own {
            own.tracer.count_missed()?;
            own.session.losses(&own.tracer.counts()?)?;
            own.proofs.run(&mut own.tracer, &mut own.session)?;
        }
        Ok(())
    }

    /// The last of it.
    pub fn end(mut self) -> anyhow::Result<()> {
        if let Some(mut own) = self.own.take() {
            let left = own.tracer.drain();
            own.session.batch(&left)?;
            own.session.losses(&own.tracer.counts()?)?;
            own.tracer.stop();
        }
        Ok(())
    }
}

/// Zombies of the tree, and their end, as sentences on stderr.
struct Sentences(Rc<RefCell<Tree>>);

impl Sink for Sentences {
    fn write(&mut self, record: &Record) -> Result<(), WriteError> {
        let is_meant = match &record.detail {
            Detail::Transition(what) => {
                let tree = self.0.borrow();
                let is_of_tree = |pid| tree.processes.contains(&pid);
                // Who ends lets everything go at once, and waits for nothing.
                matches!(record.event, Name::Zombie | Name::AtRest)
                    && what.ends_by_itself != Some(true)
                    && (is_of_tree(what.owner.process.pid)
                        || what
                            .releaser
                            .as_ref()
                            .is_some_and(|who| is_of_tree(who.pid)))
            }
            Detail::Lost(_) | Detail::Corrected(_) => true,
            Detail::Start(_) | Detail::End(_) => false,
        };
        if is_meant {
            tell::say(&sentence::of(record));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}
