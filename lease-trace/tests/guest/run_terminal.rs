//! `lease-trace run` at a terminal: the command has it, with its keys, as if nobody watched.

use crate::harness::{Monitor, Scratch, Terminal};

#[test]
fn the_keyboard_is_the_commands() {
    let _monitor = Monitor::start();
    let terminal = Terminal::start(80, 24);
    terminal.line("lease-trace run -- sh -c 'read line; echo got $line; tty -s; exit 5'");
    terminal.line("hello");
    terminal.expect("got hello");
    terminal.line("echo ended $?");
    terminal.expect("ended 5");
}

#[test]
fn ctrl_c_is_the_end_of_the_command() {
    let _monitor = Monitor::start();
    let terminal = Terminal::start(80, 24);
    terminal.line("lease-trace run -- sh -c 'echo runs; exec sleep 1000'");
    terminal.expect("runs\n");
    terminal.keys(&["C-c"]);
    terminal.line("echo ended $?");
    terminal.expect("ended 130");
}

#[test]
fn ctrl_z_stops_the_command_and_fg_goes_on_with_it() {
    let _monitor = Monitor::start();
    let terminal = Terminal::start(80, 24);
    terminal.line("lease-trace run -- sh -c 'echo runs; read line; echo got $line'");
    terminal.expect("runs\n");
    terminal.keys(&["C-z"]);
    terminal.expect("Stopped");
    terminal.line("fg");
    terminal.line("more");
    terminal.expect("got more");
}

/// A thread that waits for itself is ended like any other.
#[test]
fn ctrl_c_ends_a_wait() {
    let scratch = Scratch::new();
    let _monitor = Monitor::start();
    let client = std::env::var("CLIENT").expect("CLIENT names the actor's program");
    let terminal = Terminal::start(80, 24);
    terminal.line(&format!("lease-trace run -- {client}"));
    for command in [
        "uring ring",
        &format!("open f {} rw,creat", scratch.file("f")),
        "write-all f 1M",
        "setlease f w",
        "mmap m f 1M shared rw",
        "register-buffers ring m",
        "munmap m",
        "close f",
    ] {
        terminal.line(command);
    }
    terminal.expect("waits: 256 pins on");
    terminal.keys(&["C-c"]);
    terminal.line("echo ended $?");
    terminal.expect("ended 130");
}
