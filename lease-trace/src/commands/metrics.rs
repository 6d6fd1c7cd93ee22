//! The metrics of a monitor, if they are asked for: its records are counted beside whatever else
//! becomes of them, and who asks is answered with what the maps say at that moment.

use std::{cell::RefCell, rc::Rc};

use super::say;
use crate::{
    actions::Actions,
    clock::Clock,
    session::Session,
    sinks::{
        Several, Sink,
        metrics::{
            self,
            current::Figures,
            server::{Question, Questions, Server},
        },
    },
    tracer::Tracer,
};

/// Nothing where nobody asked for metrics.
pub struct Metrics(Option<Offered>);

struct Offered {
    metrics: Rc<RefCell<metrics::Metrics>>,
    questions: Questions,
}

impl Metrics {
    /// Offers them from now on, where `server` has taken a place.
    pub fn start(server: Option<Server>, tracer: &Tracer) -> anyhow::Result<Self> {
        let Some(server) = server else {
            return Ok(Self(None));
        };
        say(&format!("metrics at {}", server.url()));
        // Whoever put enforcement in place knew what could not be watched.
        let points =
            (!tracer.is_in_place()).then(|| (tracer.attached().len(), tracer.cannot().len()));
        Ok(Self(Some(Offered {
            metrics: Rc::new(RefCell::new(metrics::Metrics::new(points))),
            questions: server.serve()?,
        })))
    }

    /// The sink of a session, and the metrics beside it.
    pub fn beside(&self, sink: Box<dyn Sink>) -> Box<dyn Sink> {
        match &self.0 {
            Some(Offered { metrics, .. }) => {
                Box::new(Several(vec![sink, Box::new(Rc::clone(metrics))]))
            }
            None => sink,
        }
    }

    /// Waits until somebody asks. Safe to cancel.
    pub async fn asked(&mut self) -> Question {
        match &mut self.0 {
            Some(offered) => offered.questions.next().await,
            None => std::future::pending().await,
        }
    }

    pub fn answer(
        &self,
        question: Question,
        session: &mut Session,
        actions: &Actions,
        tracer: &Tracer,
    ) -> anyhow::Result<()> {
        let Some(Offered { metrics, .. }) = &self.0 else {
            return Ok(());
        };
        // The maps first: no zombie of theirs is younger than the clock.
        let holdings = tracer.holdings()?;
        let figures = Figures {
            holdings: &holdings,
            counts: &tracer.counts()?,
            policy: tracer.header()?,
            held: actions.held(),
            doubtful: tracer.doubtful()?,
            escaped: session.escaped(),
            now_ns: Clock::sample().boot_ns(),
        };
        let mut metrics = metrics.borrow_mut();
        metrics.enter(&figures, |stack| session.names().consumer(stack));
        question.answer(metrics.page()?);
        Ok(())
    }
}
