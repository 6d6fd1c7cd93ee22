//! Made-up screens, and how they look.

use std::time::Duration;

use lease_trace_common::{cause::Cause, stake::StakeKey};
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent},
};

use super::{
    Detail, Facts, From, Screen, Theme, draw,
    keys::press,
    row::{Row, Standing},
};
use crate::{
    clock::{Clock, Zone},
    fixtures,
    record::{Holder, Lost, PinSource},
};

const SECOND: u64 = 1_000_000_000;

/// So many seconds after boot, by the clock of the fixtures.
pub fn at(seconds: u64) -> Clock {
    let base = fixtures::clock();
    let wall = 1_772_612_100 * i128::from(SECOND) + i128::from(seconds * SECOND)
        - i128::from(base.boot_ns());
    Clock::fixed(seconds * SECOND, wall)
}

/// Stake of process `pid`, what it is since so many seconds after boot.
pub fn row(pid: u32, standing: Standing, since: u64) -> Row {
    let pinned = standing != Standing::Leased;
    Row {
        key: StakeKey::new(pid, 1),
        standing,
        process: fixtures::process(pid, "db"),
        unit: Some("db.service".to_owned()),
        mode: (standing != Standing::BarePin).then_some("write"),
        cause: (standing == Standing::Zombie).then(|| Cause::Unlock.name().to_owned()),
        since_ns: since * SECOND,
        pins: if pinned { 256 } else { 0 },
        doubtful: false,
        consumer: pinned.then(|| "io_uring".to_owned()),
        path: "/srv/data/segment.db".to_owned(),
        breaking: false,
    }
}

pub fn facts() -> Facts {
    Facts {
        from: From::Monitor(812),
        lost: Vec::new(),
        cannot: Vec::new(),
        started: 0,
        ended: 0,
        every: Duration::from_secs(1),
    }
}

/// 100 s after boot.
pub fn screen(rows: Vec<Row>) -> Screen {
    Screen::new(rows, facts(), at(100), Zone::Utc)
}

/// A morning on a machine with a few bad clients.
fn busy() -> Screen {
    use Standing::{BarePin, Covered, Leased, OrphanedPin, Zombie};
    let named = |pid, comm: &str, standing, since, pins, path: &str| Row {
        process: fixtures::process(pid, comm),
        pins,
        path: path.to_owned(),
        ..row(pid, standing, since)
    };
    let zombie = named(
        4711,
        "ib_write_bw",
        Zombie,
        20,
        4096,
        "/srv/database/segments/000017.hot.db",
    );
    let zombie = Row {
        cause: Some("break-timeout".to_owned()),
        consumer: Some("rdma_rxe".to_owned()),
        ..zombie
    };
    let mut rows = vec![
        named(150, "db", Covered, 60, 256, "/srv/data/segment.db"),
        zombie.clone(),
        named(
            982,
            "ring-client",
            OrphanedPin,
            70,
            256,
            "/srv/data/index.db",
        ),
        named(1_048_577, "xdpsock", BarePin, 80, 64, "…/umem (deleted)"),
        Row {
            breaking: true,
            ..named(31, "smbd", Leased, 40, 0, "/srv/share/report.odt")
        },
    ];
    let mut screen = screen(rows.clone());
    for (at_second, pins) in [(101, 512), (102, 1024), (103, 1024)] {
        rows[0].pins = pins;
        screen.update(rows.clone(), facts(), at(at_second));
    }
    rows.push(named(151, "db", Zombie, 103, 256, "/srv/data/other.db"));
    let facts = Facts {
        lost: vec![
            Lost {
                what: "paths could not be kept",
                count: 3,
            },
            Lost {
                what: "notifications found no room in the ring buffer",
                count: 12,
            },
        ],
        started: 3,
        ended: 2,
        ..facts()
    };
    screen.update(rows, facts, at(104));
    screen
}

/// Everything about the selected stake.
fn detail(screen: &Screen) -> Detail {
    let key = screen.detail_key().expect("the details are open");
    let mut entry = fixtures::entry();
    entry.owner.process = fixtures::process(key.tgid, "ib_write_bw");
    entry.cause = Some(Cause::BreakTimeout);
    entry.breaker = Some(fixtures::process(77, "cp"));
    entry.peak_pins = Some(4096);
    entry.source = PinSource {
        consumer: Some("rdma_rxe".to_owned()),
        device: Some("rxe0".to_owned()),
        context_fd: Some(3),
        context: Some("/dev/infiniband/uverbs0".to_owned()),
    };
    let holder = |pid, comm: &str, fd| Holder {
        process: fixtures::process(pid, comm),
        fd,
    };
    entry.holders = Some(vec![
        holder(77, "cp", Some(4)),
        holder(90, "rsync", Some(5)),
        holder(91, "postgres", None),
    ]);
    let stack = [
        "pin_user_pages_fast",
        "ib_umem_get",
        "rxe_mr_init_user",
        "rxe_reg_user_mr",
        "ib_uverbs_reg_mr",
        "ib_uverbs_handler_UVERBS_METHOD_INVOKE_WRITE",
        "ib_uverbs_cmd_verbs",
        "ib_uverbs_ioctl",
        "__x64_sys_ioctl",
        "do_syscall_64",
    ];
    Detail {
        key,
        entry,
        stack: stack.map(str::to_owned).into(),
        walked_ms: Some(1_200),
    }
}

/// The picture as lines without the blanks at their ends.
fn picture(screen: &mut Screen, width: u16, height: u16) -> String {
    let theme = Theme { colour: true };
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a buffer");
    terminal
        .draw(|frame| draw(screen, theme, frame))
        .expect("draws");
    let buffer = terminal.backend().buffer();
    let lines = buffer.content.chunks(width.into()).map(|cells| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn type_keys(screen: &mut Screen, keys: &[KeyCode]) {
    for key in keys {
        press(screen, KeyEvent::from(*key));
    }
}

#[test]
fn the_list() {
    insta::assert_snapshot!("list_80x24", picture(&mut busy(), 80, 24));
    insta::assert_snapshot!("list_44x14", picture(&mut busy(), 44, 14));
    insta::assert_snapshot!("list_140x20", picture(&mut busy(), 140, 20));
}

#[test]
fn the_details() {
    let mut screen = busy();
    type_keys(&mut screen, &[KeyCode::Enter]);
    screen.detail = Some(detail(&screen));
    insta::assert_snapshot!("details_80x24", picture(&mut screen, 80, 24));
    insta::assert_snapshot!("details_140x24", picture(&mut screen, 140, 24));
    type_keys(&mut screen, &[KeyCode::Enter]);
    insta::assert_snapshot!("details_alone_60x24", picture(&mut screen, 60, 24));
}

#[test]
fn what_lies_over_it() {
    let mut screen = busy();
    type_keys(&mut screen, &[KeyCode::Char('?')]);
    insta::assert_snapshot!("help_80x24", picture(&mut screen, 80, 24));
    screen.facts.cannot =
        vec!["pins through folio_add_pins: this kernel has no folio_add_pins".to_owned()];
    type_keys(&mut screen, &[KeyCode::Char('l')]);
    insta::assert_snapshot!("losses_80x24", picture(&mut screen, 80, 24));
}

#[test]
fn nothing_to_show() {
    let mut screen = screen(Vec::new());
    insta::assert_snapshot!("empty_80x24", picture(&mut screen, 80, 24));
    screen.facts.from = From::Own;
    screen.trouble = Some("monitor 812 has ended; these figures are of 08:15:00".to_owned());
    insta::assert_snapshot!("empty_of_its_own_50x12", picture(&mut screen, 50, 12));
}

#[test]
fn what_is_typed_is_shown() {
    let mut screen = busy();
    let keys = "/seg".chars().map(KeyCode::Char);
    type_keys(&mut screen, &keys.collect::<Vec<_>>());
    insta::assert_snapshot!("find_80x14", picture(&mut screen, 80, 14));
}

#[test]
fn any_size_can_be_drawn() {
    for keys in [
        &[][..],
        &[KeyCode::Enter],
        &[KeyCode::Enter, KeyCode::Enter],
        &[KeyCode::Char('?')],
    ] {
        let mut screen = busy();
        type_keys(&mut screen, keys);
        screen.detail = screen.detail_key().is_some().then(|| detail(&screen));
        for (width, height) in [(1, 1), (24, 6), (25, 7), (30, 40), (72, 16), (500, 200)] {
            picture(&mut screen, width, height);
        }
    }
}

#[test]
fn without_colours_nothing_is_coloured() {
    let mut screen = busy();
    type_keys(&mut screen, &[KeyCode::Enter]);
    screen.detail = Some(detail(&screen));
    let coloured = |screen: &mut Screen, colour| {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a buffer");
        let theme = Theme { colour };
        terminal
            .draw(|frame| draw(screen, theme, frame))
            .expect("draws");
        let cells = &terminal.backend().buffer().content;
        let plain = ratatui::style::Color::Reset;
        cells
            .iter()
            .any(|cell| cell.fg != plain || cell.bg != plain)
    };
    assert!(coloured(&mut screen, true));
    assert!(!coloured(&mut screen, false));
}

#[test]
fn the_list_follows_the_selection() {
    let rows = (501..600).map(|pid| row(pid, Standing::Covered, u64::from(pid - 500)));
    let mut screen = screen(rows.collect());
    type_keys(&mut screen, &[KeyCode::End]);
    let shown = picture(&mut screen, 80, 12);
    assert!(shown.contains(" 599 "), "{shown}");
    type_keys(&mut screen, &[KeyCode::PageUp, KeyCode::Up]);
    let shown = picture(&mut screen, 80, 12);
    let selected = screen
        .selected()
        .map(|row| row.key.tgid)
        .expect("one is selected");
    assert!(shown.contains(&format!(" {selected} ")), "{shown}");
    assert!(!shown.contains(" 599 "), "{shown}");
}
