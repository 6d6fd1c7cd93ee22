//! Attach points only. Each names the kernel prototype it relies on (kernels 6.1 to 7.3; a test
//! compares them with BTF), takes its arguments from the registers and calls what does the work.
//! Every point exists twice: as fentry/fexit and as kprobe/kretprobe.

/// A point watched on entry.
macro_rules! on_entry {
    ($(#[$doc:meta])* $function:literal, $entry:ident, $probe:ident, |$ctx:ident| $body:expr) => {
        $(#[$doc])*
        #[fentry(function = $function)]
        pub fn $entry($ctx: FEntryContext) -> i32 {
            $body;
            0
        }

        $(#[$doc])*
        #[kprobe(function = $function)]
        pub fn $probe($ctx: ProbeContext) -> u32 {
            $body;
            0
        }
    };
}

/// A point whose return counts: the arguments are kept on entry.
macro_rules! on_return {
    (
        $(#[$doc:meta])* $function:literal,
        $entry:ident, $exit:ident, $probe:ident, $ret_probe:ident,
        if $when:expr,
        |$ctx:ident| $enter:expr
        $(, |$raw:ident, $call:ident, $ret:ident| $leave:expr)?
    ) => {
        on_entry!($(#[$doc])* $function, $entry, $probe, |$ctx| if $when { $enter });

        $(#[$doc])*
        #[fexit(function = $function)]
        pub fn $exit(ctx: FExitContext) -> i32 {
            if $when && let Some(call) = calls::kept() {
                $(
                    let ($raw, $call, $ret) = (ctx.raw(), call, ctx.returned());
                    $leave;
                )?
                calls::done(call);
                moments::judge_unlocked(ctx.raw());
            }
            0
        }

        $(#[$doc])*
        #[kretprobe(function = $function)]
        pub fn $ret_probe(ctx: RetProbeContext) -> u32 {
            if $when && let Some(call) = calls::kept() {
                $(
                    let ($raw, $call, $ret) = (ctx.raw(), call, ctx.returned());
                    $leave;
                )?
                calls::done(call);
                moments::judge_unlocked(ctx.raw());
            }
            0
        }
    };
}

/// A call that pins. With fexit its arguments are there when it returns, so that one which is not
/// tracked leaves nothing behind on entry. Its kretprobe is that of all such calls.
macro_rules! on_pin {
    (
        $(#[$doc:meta])* $function:literal,
        $entry:ident, $exit:ident, $probe:ident,
        |$ctx:ident| mm: $mm:expr, start: $start:expr, flags: $flags:expr, pages: $pages:expr
    ) => {
        $(#[$doc])*
        #[fentry(function = $function)]
        pub fn $entry($ctx: FEntryContext) -> i32 {
            let flags = $flags as u32;
            if calls::is_marked(flags) {
                calls::enter_long_term(Call { mm: $mm, ..Call::new($start, $pages, flags) });
            }
            0
        }

        $(#[$doc])*
        #[fexit(function = $function)]
        pub fn $exit($ctx: FExitContext) -> i32 {
            if calls::is_marked($flags as u32) {
                leave($ctx.raw(), $ctx.returned());
            } else {
                short_term::leave_short_term($pages, $ctx.returned());
                calls::forget_mixed();
            }
            0
        }

        $(#[$doc])*
        #[kprobe(function = $function)]
        pub fn $probe($ctx: ProbeContext) -> u32 {
            let flags = $flags as u32;
            if calls::is_wanted(flags) {
                calls::enter(Call { mm: $mm, ..Call::new($start, $pages, flags) });
            }
            0
        }
    };
}

mod denials;
mod leases;
mod page_cache;
mod pins_dropped;
mod pins_taken;
mod rings;
mod walks;
