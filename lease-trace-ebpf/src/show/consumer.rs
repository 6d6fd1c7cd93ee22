//! The consumer of a pin, named in the kernel: the stack's functions by `%ps`, told apart by the
//! rules of `lease_trace_common::consumer`.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_snprintf;
use lease_trace_common::{
    STACK_LEN,
    consumer::{BEGIN_LEN, Begin, Is, NAME_LEN, RULES},
};

use crate::{
    bpf::loops::{repeat, zero},
    kernel,
    state::stakes::StakeRef,
};

/// Bytes of `function [module]` that are looked at; what is longer loses its end.
const SYMBOL_LEN: usize = 96;
/// Bytes kept of a name that no rule gives, with its NUL.
const WHO_LEN: usize = 64;

/// The name of a consumer, NUL-terminated.
pub type Who = [u8; WHO_LEN];

/// How good a name is.
mod rank {
    /// There is none.
    pub const NONE: u64 = 0;
    /// The first function that nothing is known of.
    pub const FUNCTION: u64 = 1;
    pub const HELPER: u64 = 2;
    pub const CONSUMER: u64 = 3;
}

/// A stack being read.
#[repr(C)]
struct Caller {
    stack: *const [u64; STACK_LEN],
    /// The best name so far.
    who: *mut Who,
    rank: u64,
    /// The function looked at, `function [module]`.
    symbol: [u8; SYMBOL_LEN],
    /// Where in `symbol` the function's name ends.
    function_end: u64,
    /// And the module's; 0 if there is none.
    module_end: u64,
    function: Begin,
    module: Begin,
    /// Number of the rule that matches, and 1; 0: none.
    rule: u64,
}

/// The consumer of a stake's pins; `None` if no function on the stack has a name.
#[inline(always)]
pub fn name(stake: StakeRef) -> Option<Who> {
    let mut who = [0; WHO_LEN];
    let rank = caller_name(stake.key.tgid.into(), stake.key.inode, &raw mut who);
    (rank != 0).then_some(who)
}

/// A global function, verified separately: it has a stack of its own.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn caller_name(tgid: u64, inode_id: u64, who: *mut Who) -> i64 {
    let Some(stake) = StakeRef::find(tgid as u32, inode_id) else {
        return 0;
    };
    if who.is_null() {
        return 0;
    }
    let mut caller = Caller {
        stack: &raw const stake.get().stack,
        who,
        rank: any(rank::NONE),
        symbol: [0; SYMBOL_LEN],
        function_end: any(0),
        module_end: any(0),
        function: Begin::NONE,
        module: Begin::NONE,
        rule: any(0),
    };
    repeat(STACK_LEN as u32, one_frame, &mut caller);
    caller.rank as i64
}

/// A number that the verifier takes for any: so that one frame looks like the next to it, whatever the
/// frames before have come to.
#[inline(always)]
fn any(number: u64) -> u64 {
    zero() + number
}

impl Caller {
    /// Keeps a part of `symbol` as the name.
    #[inline(always)]
    fn keep(&mut self, start: u64, end: u64, rank: u64) {
        let from = kernel::address(&self.symbol) + start;
        // SAFETY: `caller_name` was given room for so many.
        unsafe { kernel::copy_text(self.who.cast(), WHO_LEN as u64, from, end - start) };
        self.rank = any(rank);
    }
}

/// One frame, innermost first.
unsafe extern "C" fn one_frame(index: u64, state: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `caller_name` gave it.
    let caller = unsafe { &mut *state.cast::<Caller>() };
    // SAFETY: the stack is that of a live map value.
    let Some(&address) = unsafe { &*caller.stack }.get(index as usize) else {
        return 1;
    };
    if address == 0 {
        return 1;
    }
    // A return address: the call may be the last thing in its function.
    let word = if index == 0 { address } else { address - 1 };
    // SAFETY: a local, with its length; the format is a constant and takes one word.
    unsafe {
        bpf_snprintf(
            caller.symbol.as_mut_ptr().cast(),
            SYMBOL_LEN as u32,
            c"%ps".as_ptr().cast_mut().cast(),
            (&raw const word).cast_mut().cast(),
            size_of_val(&word) as u32,
        )
    };
    // An address without a name.
    if caller.symbol[0] == b'0' {
        return 0;
    }
    caller.function_end = any(0);
    caller.module_end = any(0);
    repeat(SYMBOL_LEN as u32, one_byte, caller);
    let (function_end, module_end) = (caller.function_end, caller.module_end);
    let symbol = kernel::address(&caller.symbol);
    // Behind the function's name: a blank and a bracket.
    let module = function_end + 2;
    caller.function = kernel::value(symbol).unwrap_or(Begin::NONE);
    caller.module = Begin::NONE;
    if module_end > module {
        // SAFETY: as long as it says.
        unsafe {
            kernel::copy_text(
                (&raw mut caller.module).cast(),
                BEGIN_LEN as u64,
                symbol + module,
                module_end - module,
            );
        }
    }
    caller.rule = any(0);
    repeat(RULES.len() as u32, one_rule, caller);
    if caller.rule == 0 {
        if module_end > module {
            caller.keep(module, module_end, rank::CONSUMER);
        } else if caller.rank == rank::NONE {
            caller.keep(0, function_end, rank::FUNCTION);
        }
    } else if let Some(rule) = RULES.get(caller.rule as usize - 1) {
        let new = match rule.is() {
            Is::Machinery => rank::NONE,
            Is::Helper => rank::HELPER,
            Is::Consumer => rank::CONSUMER,
        };
        if new > caller.rank {
            // SAFETY: `caller_name` was given more room than that.
            unsafe {
                caller
                    .who
                    .cast::<[u8; NAME_LEN]>()
                    .write(*rule.padded_name());
            };
            caller.rank = any(new);
        }
    }
    i64::from(caller.rank == rank::CONSUMER)
}

/// Looks for the ends of both names.
unsafe extern "C" fn one_byte(index: u64, state: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `one_frame` gave it.
    let caller = unsafe { &mut *state.cast::<Caller>() };
    match kernel::value::<u8>(kernel::address(&caller.symbol) + index) {
        Some(b' ') => caller.function_end = index,
        Some(b']') => {
            caller.module_end = index;
            return 1;
        }
        None | Some(0) => {
            if caller.function_end == 0 {
                caller.function_end = index;
            }
            return 1;
        }
        Some(_) => {}
    }
    0
}

/// Looks for the first rule that matches.
unsafe extern "C" fn one_rule(index: u64, state: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `one_frame` gave it.
    let caller = unsafe { &mut *state.cast::<Caller>() };
    let matches = RULES
        .get(index as usize)
        .is_some_and(|rule| rule.matches(&caller.function, &caller.module));
    if matches {
        caller.rule = index + 1;
    }
    i64::from(matches)
}
