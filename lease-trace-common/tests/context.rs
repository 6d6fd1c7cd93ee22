//! Which file a system call works on.

use lease_trace_common::context::{Context, Place, SystemCall, place};

fn of(number: i64, first: u64, second: u64, fourth: u64) -> Place {
    place(&SystemCall {
        number,
        first,
        second,
        fourth,
        compat: false,
    })
}

#[test]
fn the_first_argument_is_the_descriptor() {
    // ioctl, write, setsockopt, pread64, preadv2
    for number in [16, 1, 54, 17, 327] {
        assert_eq!(of(number, 7, 0, 0), Place::Descriptor(7), "{number}");
    }
}

#[test]
fn a_ring_may_be_known_by_its_place_among_the_registered_ones() {
    assert_eq!(of(427, 7, 0, 0), Place::Descriptor(7));
    assert_eq!(of(427, 0, 1 << 31, 0), Place::RegisteredRing(0));
    assert_eq!(of(426, 7, 1, 0), Place::Descriptor(7));
    assert_eq!(of(426, 2, 1, 1 << 4), Place::RegisteredRing(2));
}

#[test]
fn other_calls_work_on_no_file() {
    // mmap has its descriptor elsewhere; io_submit's first argument is no descriptor; -1: a
    // kernel thread.
    for number in [9, 209, -1] {
        assert_eq!(of(number, 7, 0, 0), Place::Nowhere, "{number}");
    }
}

#[test]
fn the_32_bit_calls_have_numbers_of_their_own() {
    let of = |number| {
        place(&SystemCall {
            number,
            compat: true,
            first: 7,
            ..SystemCall::default()
        })
    };
    assert_eq!(of(54), Place::Descriptor(7), "ioctl");
    assert_eq!(of(16), Place::Nowhere, "lchown");
    assert_eq!(of(366), Place::Descriptor(7), "setsockopt");
}

#[test]
fn some_calls_of_x32_have_numbers_of_their_own() {
    const X32: i64 = 0x4000_0000;
    // read, ioctl, readv, writev, recvfrom, sendmsg, recvmsg, vmsplice, preadv, pwritev,
    // setsockopt, preadv2, pwritev2
    for number in [
        0, 514, 515, 516, 517, 518, 519, 532, 534, 535, 541, 546, 547,
    ] {
        let place = of(X32 + number, 7, 0, 0);
        assert_eq!(place, Place::Descriptor(7), "{number}");
        let without = number < 512;
        assert_eq!(of(number, 7, 0, 0) == place, without, "{number}");
    }
    assert_eq!(
        of(X32 + 427, 0, 1 << 31, 0),
        Place::RegisteredRing(0),
        "io_uring_register"
    );
    // mmap, io_submit
    for number in [9, 544] {
        assert_eq!(of(X32 + number, 7, 0, 0), Place::Nowhere, "{number}");
    }
}

#[test]
fn a_socket_is_known_by_its_mode() {
    let of = |mode| Context {
        mode,
        ..Context::NONE
    };
    assert!(of(0o140_777).is_socket());
    assert!(!of(0o100_644).is_socket());
    assert!(!Context::NONE.is_socket());
}
