//! The parser of ring records: whatever bytes come, it answers, and hands out no more than there is.
#![no_main]

use lease_trace_common::event::Event;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|record: &[u8]| {
    if let Some((event, path)) = Event::parse(record) {
        assert_eq!(path.len(), event.path_len as usize);
        assert!(size_of::<Event>() + path.len() <= record.len());
        assert_eq!(event.stake().tgid, event.owner.tgid);
    }
});
