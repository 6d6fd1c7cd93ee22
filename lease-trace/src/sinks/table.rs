//! The live table: a row for each transition, written as it comes, so the widths are fixed.
//!
//! A row is made to be read at a glance in 80 columns: when, what, who, how, how long, how much,
//! through what, and on which file. Everything else is in the NDJSON. Rows go to stdout; what was
//! attached, losses and the summary are talk and go to stderr.

mod row;

use std::io::Write;

use self::row::{Cells, HEADER};
use super::{Sink, WriteError, sentence, terminal::Look, text};
use crate::{
    clock::Zone,
    record::{Detail, End, Entry, Lost, Name, Record, Start, Transition},
    rules,
    tracer::cross_check::CrossCheck,
};

const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

/// Zombies that the summary names one by one.
const NAMED: usize = 10;

/// Rows to `out`, talk to `talk`.
pub struct Table<W, T> {
    out: W,
    talk: T,
    look: Look,
    zone: Zone,
}

impl<W: Write, T: Write> Table<W, T> {
    pub const fn new(out: W, talk: T, look: Look, zone: Zone) -> Self {
        Self {
            out,
            talk,
            look,
            zone,
        }
    }

    fn transition(&self, record: &Record, what: &Transition) -> String {
        let Transition {
            owner,
            releaser,
            breaker,
            file,
            lease,
            cause,
            pins,
            doubtful,
            source,
            ends_by_itself,
            pinned_ms,
            zombie_ms,
            orphan,
            rule_action,
        } = what;
        let by_itself = *ends_by_itself == Some(true);
        let cause = cause.map_or_else(
            || "-".to_owned(),
            |cause| format!("{}{}", cause.name(), if by_itself { "*" } else { "" }),
        );
        let age = match (record.event, lease) {
            (Name::AtRest, _) => zombie_ms.map_or_else(|| "?".to_owned(), text::age),
            (Name::BarePinEnd, _) => pinned_ms.map_or_else(|| "?".to_owned(), text::age),
            (Name::OrphanEnd, _) => orphan.orphaned_ms.map_or_else(|| "?".to_owned(), text::age),
            (Name::Zombie | Name::LeaseEnd | Name::OrphanedPin, Some(lease)) => {
                lease.held_ms.map_or_else(|| "?".to_owned(), text::age)
            }
            _ => "-".to_owned(),
        };
        let (path, deleted) = text::path(file.path.as_ref());
        let note = match releaser {
            // Who dropped the last pin does not matter to anybody at a glance.
            Some(who)
                if who.pid != owner.process.pid
                    && !matches!(record.event, Name::AtRest | Name::BarePinEnd) =>
            {
                format!("{deleted} (released by {})", text::process(who))
            }
            _ => deleted.to_owned(),
        };
        let note = match breaker {
            Some(who) if record.event != Name::AtRest => {
                format!("{note} (broken by {})", text::process(who))
            }
            _ => note,
        };
        let note = match (&orphan.holders, orphan.end) {
            (Some(holders), _) => format!("{note} (kept by {})", text::people(holders)),
            (None, Some(end)) => format!("{note} ({end})"),
            (None, None) => note,
        };
        let note = match rule_action {
            Some(rule_action) if matches!(rule_action.outcome, "done" | "would") => {
                format!("{note} [{}]", rule_action.rule)
            }
            Some(rule_action) => format!(
                "{note} [{}: {} {}]",
                rule_action.rule,
                rule_action.action.name(),
                rule_action.outcome
            ),
            None => note,
        };
        let line = row::line(
            self.look,
            &Cells {
                time: &record.time.time_of_day(self.zone),
                event: record.event.text(),
                command: &text::escape(owner.process.comm.as_bytes()),
                pid: &owner.process.pid.to_string(),
                cause: &cause,
                age: &age,
                pins: &pins.map_or_else(|| "-".to_owned(), |pins| text::pins(pins, *doubtful)),
                consumer: &consumer(source.consumer.as_deref(), *pins),
                path: &path,
                note: &note,
            },
        );
        let colour = match record.event {
            _ if !self.look.colour => None,
            Name::Zombie if by_itself => Some(YELLOW),
            Name::Zombie | Name::OrphanedPin | Name::Killed | Name::Failed | Name::Overdue => {
                Some(RED)
            }
            Name::Denied
            | Name::Reported
            | Name::Held
            | Name::Stopped
            | Name::WouldDeny
            | Name::WouldHold
            | Name::WouldStop
            | Name::WouldKill => Some(YELLOW),
            Name::AtRest | Name::BarePinEnd | Name::OrphanEnd => Some(GREEN),
            _ => None,
        };
        match colour {
            Some(colour) => format!("{colour}{line}{RESET}"),
            None => line,
        }
    }

    /// Talk has no reader that counts on it: a closed stderr stops nothing.
    fn say(&mut self, sentence: &str) {
        let _ = writeln!(self.talk, "{}", text::wrap(sentence, text::TALK_WIDTH, 2));
    }

    fn start(&mut self, start: &Start) {
        let Start {
            pid,
            kernel,
            attach,
            cannot,
            recovered,
            policy,
        } = start;
        self.say(&format!(
            "lease-trace (pid {pid}) watches leases and pins on kernel {kernel}; Ctrl-C ends it"
        ));
        if let Some(sentence) = recovered {
            self.say(sentence);
        }
        for (how, points) in by_mechanism(attach) {
            self.say(&format!("attached by {how}: {}", points.join(", ")));
        }
        for sentence in cannot {
            self.say(&format!("not shown: {sentence}"));
        }
        if let Some(policy) = policy {
            self.say(&format!(
                "{} mode by {}: {}",
                policy.mode.name(),
                text::counted(policy.rules.len() as u64, "rule"),
                policy.rules.join(", ")
            ));
        }
        self.say("* after a cause: the process is ending, and its pins go with it");
        let _ = self.talk.flush();
    }

    fn lost(&mut self, lost: &Lost) {
        self.say(&format!("lost {}: {}", lost.count, lost.what));
    }

    fn end(&mut self, end: &End) {
        let End {
            events,
            by_event,
            lost,
            zombies,
            cross_check,
            rules,
            left,
            duration_ms,
        } = end;
        let kinds: Vec<_> = by_event
            .iter()
            .map(|(name, count)| format!("{count} {}", name.text()))
            .collect();
        let kinds = match kinds.as_slice() {
            [] => String::new(),
            kinds => format!(" ({})", kinds.join(", ")),
        };
        self.say(&format!(
            "ended after {}: {}{kinds}, {} lost, {} left{}",
            text::age(*duration_ms),
            text::counted(*events, "event"),
            if *lost == 0 {
                "nothing".to_owned()
            } else {
                lost.to_string()
            },
            text::counted(*zombies, "zombie"),
            if left.is_empty() { "" } else { ":" },
        ));
        for zombie in left.iter().take(NAMED) {
            let _ = writeln!(self.talk, "  {}", in_a_sentence(zombie));
        }
        if left.len() > NAMED {
            let _ = writeln!(self.talk, "  and {} more", left.len() - NAMED);
        }
        if let Some(cross_check) = cross_check {
            self.say(&cross_checked(cross_check));
        }
        for (rule, hits) in rules {
            self.say(&format!("rule {rule}: {}", rules::hits_in_words(hits)));
        }
    }
}

/// What a cross-check came to, in a sentence.
fn cross_checked(cross_check: &CrossCheck) -> String {
    let CrossCheck {
        taken,
        dropped,
        kernel_taken,
        kernel_dropped,
        escaped,
    } = cross_check;
    format!(
        "all pins: {taken} seen to be taken and {dropped} dropped, {kernel_taken} and \
         {kernel_dropped} by the kernel's count; {escaped} escaped"
    )
}

impl<W: Write, T: Write> Sink for Table<W, T> {
    fn write(&mut self, record: &Record) -> Result<(), WriteError> {
        match &record.detail {
            Detail::Transition(what) => {
                let line = self.transition(record, what);
                writeln!(self.out, "{line}")?;
            }
            Detail::Start(start) => {
                self.start(start);
                writeln!(self.out, "{}", row::line(self.look, &HEADER))?;
            }
            Detail::Corrected(what) => self.say(&sentence::corrected(what)),
            Detail::Lost(lost) => self.lost(lost),
            Detail::End(end) => {
                // The summary comes after the rows on a terminal that shows both.
                self.out.flush()?;
                self.end(end);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(self.out.flush()?)
    }
}

/// The consumer of pins is unknown rather than absent.
fn consumer(name: Option<&str>, pins: Option<u64>) -> String {
    match (name, pins) {
        (Some(name), _) => text::escape(name.as_bytes()),
        (None, Some(_)) => "?".to_owned(),
        (None, None) => "-".to_owned(),
    }
}

fn in_a_sentence(zombie: &Entry) -> String {
    let (path, note) = text::path(zombie.file.path.as_ref());
    format!(
        "{}[{}]: {} on {path}{note}",
        text::escape(zombie.owner.process.comm.as_bytes()),
        zombie.owner.process.pid,
        text::counted(zombie.pins.unwrap_or(0), "pin"),
    )
}

/// `point: how` lines, gathered by how, in the order of their first appearance.
fn by_mechanism(attached: &[String]) -> Vec<(&str, Vec<&str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in attached {
        let (point, how) = line.split_once(": ").unwrap_or((line, "other means"));
        match groups.iter_mut().find(|(known, _)| *known == how) {
            Some((_, points)) => points.push(point),
            None => groups.push((how, vec![point])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::fixtures;

    fn show(look: Look) -> (String, String) {
        let mut table = Table::new(Vec::new(), Vec::new(), look, Zone::Utc);
        for record in fixtures::records() {
            table.write(&record).expect("a Vec takes it");
        }
        (
            String::from_utf8(table.out).expect("escaped"),
            String::from_utf8(table.talk).expect("escaped"),
        )
    }

    #[test]
    fn a_row_fits_eighty_columns() {
        let (rows, _) = show(Look {
            width: Some(80),
            colour: false,
        });
        assert_snapshot!(rows, @r#"
        TIME     EVENT      COMMAND       PID CAUSE      AGE  PINS CONSUMER PATH
        08:15:01 lease-set  fio           982 -            -     - -        /tmp/f
        08:15:02 zombie     rdma-cli…    4711 unlock   10.0s   256 rdma_rxe …0017.hot.db
        08:15:03 zombie     fio           982 break-t…     ?  4096 io_uring /tmp/f
                 (released by fio-child[983]) (broken by cp[77])
        08:15:04 zombie     ib_write… 1048577 killed*  10.0s     8 vfio     /tmp/a\nb
                 (deleted)
        08:15:05 bare-pin   xdpsock         5 -            -    64 ?        …/f
        08:15:07 bare-pin-… xdpsock         5 -         1.5s    64 ?        …/f
        08:15:06 orphaned-… fio           982 -        10.0s  4096 io_uring /tmp/f
                 (kept by fio-child[983])
        08:15:08 orphan-end fio           982 -         2.0s  4096 io_uring /tmp/f
                 (pins-gone)
        08:15:14 at-rest    rdma-cli…    4711 unlock   12.3s   256 rdma_rxe …0017.hot.db
        08:15:15 lease-end  fio           982 close    10.0s     - -        /tmp/f
        08:15:15 denied     rdma-cli…    4711 close        -   256 ?        /srv/f
                 [rdma-exports]
        08:15:15 would-kill rdma-cli…    4711 close        -   256 ?        /srv/f
                 [rdma-exports]
        08:15:15 spared     rdma-cli…    4711 close        -   256 ?        /srv/f
                 [rdma-exports: kill bystander]
        08:15:15 hold-end   rdma-cli…    4711 close        -   256 ?        /srv/f
                 [rdma-exports: hold limit]
        "#);
    }

    #[test]
    fn nothing_is_shortened_in_a_pipe() {
        assert_snapshot!(show(Look::PLAIN).0, @r#"
        TIME     EVENT        COMMAND             PID CAUSE           AGE    PINS CONSUMER     PATH
        08:15:01 lease-set    fio                 982 -                 -       - -            /tmp/f
        08:15:02 zombie       rdma-client        4711 unlock        10.0s     256 rdma_rxe     /srv/database/segments/000017.hot.db
        08:15:03 zombie       fio                 982 break-timeout     ?    4096 io_uring     /tmp/f (released by fio-child[983]) (broken by cp[77])
        08:15:04 zombie       ib_write_bw     1048577 killed*       10.0s       8 vfio         /tmp/a\nb (deleted)
        08:15:05 bare-pin     xdpsock               5 -                 -      64 ?            …/f
        08:15:07 bare-pin-end xdpsock               5 -              1.5s      64 ?            …/f
        08:15:06 orphaned-pin fio                 982 -             10.0s    4096 io_uring     /tmp/f (kept by fio-child[983])
        08:15:08 orphan-end   fio                 982 -              2.0s    4096 io_uring     /tmp/f (pins-gone)
        08:15:14 at-rest      rdma-client        4711 unlock        12.3s     256 rdma_rxe     /srv/database/segments/000017.hot.db
        08:15:15 lease-end    fio                 982 close         10.0s       - -            /tmp/f
        08:15:15 denied       rdma-client        4711 close             -     256 ?            /srv/f [rdma-exports]
        08:15:15 would-kill   rdma-client        4711 close             -     256 ?            /srv/f [rdma-exports]
        08:15:15 spared       rdma-client        4711 close             -     256 ?            /srv/f [rdma-exports: kill bystander]
        08:15:15 hold-end     rdma-client        4711 close             -     256 ?            /srv/f [rdma-exports: hold limit]
        "#);
    }

    #[test]
    fn talk_goes_elsewhere() {
        assert_snapshot!(show(Look::PLAIN).1, @r#"
        lease-trace (pid 812) watches leases and pins on kernel 6.12.117+deb13-amd64;
          Ctrl-C ends it
        removed a directory that a dead monitor had left
        attached by fentry+fexit: generic_setlease, pin_user_pages, pin_user_pages_fast
        attached by fentry: lease_modify
        attached by kprobe: unpin_user_page
        not shown: pins through folio_add_pins: this kernel has no folio_add_pins
        enforce mode by 1 rule: rdma-exports
        * after a cause: the process is ending, and its pins go with it
        corrected: 5 pins were counted on /tmp/f, and there are 0
        lost 3: notifications found no room in the ring buffer
        ended after 20.0s: 5 events (3 zombie, 1 at-rest, 1 bare-pin), 3 lost, 1 zombie
          left:
          fio[982]: 256 pins on /srv/database/segments/000017.hot.db
        all pins: 900 seen to be taken and 644 dropped, 903 and 644 by the kernel's
          count; 3 escaped
        rule rdma-exports: denied 1, would-kill 1
        "#);
    }

    #[test]
    fn a_zombie_is_red_and_its_rest_is_green() {
        let (rows, _) = show(Look {
            width: Some(200),
            colour: true,
        });
        let colour_of = |event: &str| {
            let row = rows.lines().find(|row| row.contains(event)).expect("a row");
            row.split_once('m').map(|(colour, _)| format!("{colour}m"))
        };
        assert_eq!(colour_of(" zombie ").as_deref(), Some(RED));
        assert_eq!(colour_of(" at-rest ").as_deref(), Some(GREEN));
        assert_eq!(colour_of("killed*").as_deref(), Some(YELLOW));
        assert!(
            rows.lines()
                .next()
                .is_some_and(|header| !header.contains('\x1b'))
        );
    }

    #[test]
    fn a_full_disk_is_an_error_and_a_closed_stderr_is_not() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let records = fixtures::records();
        let start = &records[0];
        assert!(
            Table::new(Full, Vec::new(), Look::PLAIN, Zone::Utc)
                .write(start)
                .is_err()
        );
        assert!(
            Table::new(Vec::new(), Full, Look::PLAIN, Zone::Utc)
                .write(start)
                .is_ok()
        );
    }
}
