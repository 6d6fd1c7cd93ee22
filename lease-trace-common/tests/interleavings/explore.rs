//! Goes through every state that the threads of a program can come to, each once.
//!
//! A thread is a function of what its steps returned. So a state is the memory and, for each thread, the
//! node of a tree of such results; what a thread does next at a node is found out once, by running it
//! anew with these results. Two orders of steps that come to the same state have the same future, so
//! only one is followed: this is what makes all orders of three threads few enough.
//!
//! The steps are sequentially consistent, as the kernel side's are in effect: BPF's atomic instructions that
//! return a value are fully ordered, and every decision rests on one of them.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::{
    layer::{self, Machine, Stop},
    memory::{Memory, Note, Op},
    program::{self, Kept, Placed, Program},
};

/// What a thread does next.
#[derive(Clone, Copy)]
enum Next {
    Step(Op),
    /// Its place in the program, and what it keeps.
    Begin(usize, Kept),
    End,
}

struct Node {
    /// The place in the program, what was kept there, and the results of the steps since.
    place: usize,
    kept: Kept,
    results: Vec<u64>,
    notes: Vec<Note>,
    next: Next,
}

/// Gives a thread the results that are known; stops it at the next step.
struct Replay {
    results: Vec<u64>,
    at: usize,
    notes: Vec<Note>,
    next: Option<Op>,
}

impl Machine for Replay {
    fn run(&mut self, op: Op) -> u64 {
        if let Some(result) = self.results.get(self.at) {
            self.at += 1;
            return *result;
        }
        self.next = Some(op);
        u64::MAX
    }

    fn is_stopped(&self) -> bool {
        self.next.is_some()
    }

    fn note(&mut self, note: Note) {
        // Those before the last step were taken with it.
        if self.at == self.results.len() {
            self.notes.push(note);
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}

/// Carries out each step at once.
struct Alone(Memory);

impl Machine for Alone {
    fn run(&mut self, op: Op) -> u64 {
        self.0.run(op)
    }

    fn is_stopped(&self) -> bool {
        false
    }

    fn note(&mut self, note: Note) {
        self.0.note(note);
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}

fn alone(memory: Memory, steps: &[Placed]) -> Memory {
    let mut kept = Kept::default();
    let (result, machine) = layer::with_machine(Box::new(Alone(memory)), || {
        for step in steps {
            program::run(*step, &mut kept);
        }
    });
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
    machine.into_any().downcast::<Alone>().unwrap().0
}

/// The nodes of one thread.
struct Thread<'a> {
    steps: &'a [Placed],
    nodes: Vec<Node>,
    begins: HashMap<(usize, Kept), usize>,
    children: HashMap<(usize, u64), usize>,
}

impl<'a> Thread<'a> {
    fn new(steps: &'a [Placed]) -> Self {
        Self {
            steps,
            nodes: Vec::new(),
            begins: HashMap::new(),
            children: HashMap::new(),
        }
    }

    fn begin(&mut self, place: usize, kept: Kept) -> usize {
        if let Some(there) = self.begins.get(&(place, kept)) {
            return *there;
        }
        let node = self.make(place, kept, Vec::new());
        self.begins.insert((place, kept), node);
        node
    }

    fn child(&mut self, node: usize, result: u64) -> usize {
        if let Some(there) = self.children.get(&(node, result)) {
            return *there;
        }
        let Node { place, kept, results, .. } = &self.nodes[node];
        let mut results = results.clone();
        results.push(result);
        let child = self.make(*place, *kept, results);
        self.children.insert((node, result), child);
        child
    }

    fn make(&mut self, place: usize, kept: Kept, results: Vec<u64>) -> usize {
        let replay = Replay {
            results: results.clone(),
            at: 0,
            notes: Vec::new(),
            next: None,
        };
        let mut keeps = kept;
        let (notes, next) = match self.steps.get(place) {
            None => (Vec::new(), Next::End),
            Some(step) => {
                let (result, machine) =
                    layer::with_machine(Box::new(replay), || program::run(*step, &mut keeps));
                let replay = machine.into_any().downcast::<Replay>().unwrap();
                let next = match (result, replay.next) {
                    (Err(stop), Some(op)) if stop.is::<Stop>() => Next::Step(op),
                    (Err(panic), _) => std::panic::resume_unwind(panic),
                    (Ok(()), _) => Next::Begin(place + 1, keeps),
                };
                (replay.notes, next)
            }
        };
        self.nodes.push(Node { place, kept, results, notes, next });
        self.nodes.len() - 1
    }
}

#[derive(Clone, Hash)]
struct State {
    memory: Memory,
    at: Vec<usize>,
}

/// How many states there were, and in how many of them all threads had ended.
#[derive(Debug, Default, Clone, Copy)]
pub struct Explored {
    pub states: usize,
    pub ends: usize,
}

struct Explorer<'a> {
    program: &'a Program,
    threads: Vec<Thread<'a>>,
    seen: HashSet<u64>,
    explored: Explored,
    /// The steps that led to where it is.
    path: Vec<(usize, Op, u64)>,
}

/// Explores all orders; panics with the program and the steps if an invariant does not hold.
pub fn explore(program: &Program) -> Explored {
    let memory = alone(Memory::new(program.elements), &program.first);
    let mut explorer = Explorer {
        program,
        threads: program.threads.iter().map(|steps| Thread::new(steps)).collect(),
        seen: HashSet::new(),
        explored: Explored::default(),
        path: Vec::new(),
    };
    let mut state = State {
        memory,
        at: vec![0; program.threads.len()],
    };
    for n in 0..state.at.len() {
        let node = explorer.threads[n].begin(0, Kept::default());
        explorer.arrive(&mut state, n, node);
    }
    explorer.run(state);
    explorer.explored
}

impl Explorer<'_> {
    fn run(&mut self, first: State) {
        // The depth of each state in the path, and the thread that goes on from it.
        let mut stack = vec![(first, 0)];
        while let Some((state, next)) = stack.last_mut() {
            let n = *next;
            if n == 0 && state.at.iter().enumerate().all(|(n, at)| self.is_end(n, *at)) {
                let memory = state.memory.clone();
                self.judge(memory);
                stack.pop();
                self.path.pop();
                continue;
            }
            if n == state.at.len() {
                stack.pop();
                self.path.pop();
                continue;
            }
            *next += 1;
            let Next::Step(op) = self.threads[n].nodes[state.at[n]].next else {
                continue;
            };
            let mut state = state.clone();
            let result = state.memory.run(op);
            let node = self.threads[n].child(state.at[n], result);
            self.arrive(&mut state, n, node);
            self.path.push((n, op, result));
            if let Some(wrong) = state.memory.wrong {
                self.fail(wrong);
            }
            let mut hasher = DefaultHasher::new();
            state.hash(&mut hasher);
            if self.seen.insert(hasher.finish()) {
                self.explored.states += 1;
                stack.push((state, 0));
            } else {
                self.path.pop();
            }
        }
    }

    fn is_end(&self, n: usize, at: usize) -> bool {
        matches!(self.threads[n].nodes[at].next, Next::End)
    }

    /// A thread comes to a node; goes on to the next place of its program at once.
    fn arrive(&mut self, state: &mut State, n: usize, mut node: usize) {
        loop {
            let thread = &mut self.threads[n];
            for note in &thread.nodes[node].notes {
                state.memory.note(*note);
            }
            match thread.nodes[node].next {
                Next::Begin(place, kept) => node = thread.begin(place, kept),
                Next::Step(_) | Next::End => break,
            }
        }
        state.at[n] = node;
    }

    fn judge(&mut self, memory: Memory) {
        self.explored.ends += 1;
        if let Err(wrong) = self.program.judge(&memory) {
            self.fail(&wrong);
        }
        for seen in [true, false] {
            let memory = alone(memory.clone(), &self.program.rest(seen));
            if let Err(wrong) = self.program.judge_empty(&memory) {
                let how = if seen { "seen" } else { "unseen" };
                self.fail(&format!("after the rest was let go of, {how}: {wrong}"));
            }
        }
    }

    fn fail(&self, wrong: &str) -> ! {
        let mut path = String::new();
        for (n, op, result) in &self.path {
            path += &format!("  thread {n}: {op:x?} -> {result:x}\n");
        }
        panic!("{wrong}\nin the program of {}by these steps:\n{path}", self.program);
    }
}
