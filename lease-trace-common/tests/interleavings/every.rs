//! Every order of the steps of some threads in which a thread is interrupted at most so many times, after Musuvathi and
//! Qadeer, Iterative Context Bounding for Systematic Testing of Multithreaded Programs (PLDI 2007).

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

/// Chooses one order after the other, depth first.
pub struct Every {
    /// Threads that are interrupted in one order at most.
    most: usize,
    /// The choices of the order under way: which of how many, and whether any but the first interrupts.
    choices: Vec<Choice>,
    /// How many of them have been made again in this execution.
    made: usize,
    is_first: bool,
}

#[derive(Clone, Copy)]
struct Choice {
    taken: usize,
    of: usize,
    interrupts: bool,
}

impl Every {
    pub fn new(most: usize) -> Self {
        Self {
            most,
            choices: Vec::new(),
            made: 0,
            is_first: true,
        }
    }

    fn interrupted(&self) -> usize {
        let made = &self.choices[..self.made];
        made.iter()
            .filter(|choice| choice.interrupts && choice.taken > 0)
            .count()
    }
}

impl Scheduler for Every {
    fn new_execution(&mut self) -> Option<Schedule> {
        if !self.is_first {
            while self
                .choices
                .pop_if(|last| last.taken + 1 == last.of)
                .is_some()
            {}
            self.choices.last_mut()?.taken += 1;
        }
        self.is_first = false;
        self.made = 0;
        Some(Schedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let mut tasks: Vec<TaskId> = runnable.iter().map(|task| task.id()).collect();
        let goes_on = current.filter(|current| tasks.contains(current));
        if let Some(current) = goes_on {
            tasks.retain(|task| *task != current);
            // Who waits for another lets it run; else going on comes first.
            let place = if is_yielding { tasks.len() } else { 0 };
            tasks.insert(place, current);
        }
        let interrupts = goes_on.is_some() && !is_yielding;
        if interrupts && self.interrupted() >= self.most || is_yielding {
            tasks.truncate(1);
        }
        if self.made == self.choices.len() {
            self.choices.push(Choice {
                taken: 0,
                of: tasks.len(),
                interrupts,
            });
        }
        let choice = self.choices[self.made];
        self.made += 1;
        Some(tasks[choice.taken])
    }

    fn next_u64(&mut self) -> u64 {
        unreachable!("the programs draw no numbers")
    }
}
