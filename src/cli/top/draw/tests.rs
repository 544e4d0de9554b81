use super::super::scrape::Reading;
use super::super::watched::Watched;
use super::super::watched::tests::{failing, reading};
use super::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent};
use std::time::{Duration, Instant};

/// What a proxy of one namespace counts `seconds` after its start.
fn proxy(namespace: &str, seconds: u64) -> String {
    let labels = format!("namespace=\"{namespace}\"");
    let mut text = format!(
        "wal_sidecar_build_info{{version=\"0.1.0\"}} 1
wal_sidecar_process_start_time_seconds 1700000000
wal_sidecar_process_cpu_seconds_total {cpu}
wal_sidecar_process_resident_memory_bytes 25165824
wal_sidecar_journal_accepting{{{labels}}} 1
wal_sidecar_client_connections{{{labels}}} 48
wal_sidecar_commands_total{{{labels},class=\"read\"}} {reads}
wal_sidecar_commands_total{{{labels},class=\"mutation\"}} {writes}
wal_sidecar_journal_bytes_total{{{labels}}} {bytes}
wal_sidecar_journal_waiting_bytes{{{labels}}} 512
wal_sidecar_mutations_not_journaled_total{{{labels}}} 0
wal_sidecar_mutations_uncertain_total{{{labels}}} {uncertain}
",
        cpu = seconds as f64 * 0.4,
        reads = 12_500 * seconds,
        writes = 840 * seconds,
        bytes = 150_000 * seconds,
        uncertain = seconds / 2,
    );
    for (le, count) in [("0.001", 800), ("0.002", 835), ("+Inf", 840)] {
        for (name, class) in [
            ("batch_duration_seconds", ",class=\"mutation\""),
            ("journal_fsync_seconds", ""),
        ] {
            let count = count * seconds;
            text += &format!("wal_sidecar_{name}_bucket{{{labels}{class},le=\"{le}\"}} {count}\n");
        }
    }
    text
}

/// What a replicator adds to that.
fn replicator(namespace: &str, is_leading: bool, seconds: u64, sources: &[(&str, f64)]) -> String {
    let labels = format!("namespace=\"{namespace}\"");
    let mut text = format!(
        "wal_sidecar_replication_leading{{{labels}}} {leading}
wal_sidecar_replication_dead_letters{{{labels}}} 3
wal_sidecar_replication_dead_letters_total{{{labels}}} 5
wal_sidecar_replication_races_total{{{labels}}} {seconds}
wal_sidecar_replication_snapshots_total{{{labels},reason=\"conflict\"}} {snapshots}
wal_sidecar_replication_snapshots_total{{{labels},reason=\"dead_writer\"}} {seconds}
wal_sidecar_replication_snapshots_total{{{labels},reason=\"skew\"}} 0
",
        leading = u8::from(is_leading),
        snapshots = 7 * seconds,
    );
    for (source, lag) in sources {
        let labels = format!("{labels},source=\"{source}\"");
        let (up, applied) = (u8::from(*lag < 600.0), 900 * seconds);
        text += &format!(
            "wal_sidecar_replication_source_up{{{labels}}} {up}
wal_sidecar_replication_lag_seconds{{{labels}}} {lag}
wal_sidecar_replication_lag_records{{{labels}}} {behind}
wal_sidecar_replication_clock_skew_seconds{{{labels}}} 0.02
wal_sidecar_replication_applied_records_total{{{labels}}} {applied}
wal_sidecar_replication_skipped_records_total{{{labels}}} {seconds}
wal_sidecar_replication_conflicts_total{{{labels}}} {conflicts}
wal_sidecar_replication_copies_total{{{labels}}} 0
wal_sidecar_replication_sequence_gaps_total{{{labels}}} {gaps}
",
            behind = (lag * 100.0) as u64,
            conflicts = 6 * seconds,
            gaps = u8::from(*lag > 600.0),
        );
    }
    text
}

/// Two regions and a process that is away, after two readings.
fn model(namespace: Option<&str>) -> Model {
    let start = Instant::now();
    let names = [
        "10.0.1.7:9900",
        "10.0.2.7:9900",
        "10.0.2.8:9900",
        "cart-0.cart:9900",
    ];
    let mut watched = names.map(|name| Watched::new(name.to_owned()));
    for seconds in [10, 12] {
        let say = |region: &str, text: &str| -> Reading { reading(start, seconds, region, text) };
        let sources = [("us-east-1", 0.08), ("ap-south-1", 900.0)];
        let eu = proxy("sessions", seconds) + &replicator("sessions", true, seconds, &sources);
        watched[0].take(Ok(say("eu-west-1", &eu)));
        let us = proxy("carts", seconds) + &proxy("sessions", seconds);
        let mut us = say("us-east-1", &us);
        us.config.roles.pop();
        us.readiness.ready = false;
        let full = failing("carts/journal", "the disk is full");
        us.readiness.checks.push(full);
        watched[1].take(Ok(us));
        let sources = [("ap-south-1", 12.0), ("eu-west-1", 0.3)];
        let us = proxy("sessions", 0) + &replicator("sessions", false, seconds, &sources);
        let mut us = say("us-east-1", &us);
        us.config.roles.remove(0);
        watched[2].take(Ok(us));
    }
    let refused = "connect: Connection refused (os error 111)";
    watched[3].take(Err(refused.to_owned()));
    Model::new(&watched, namespace)
}

fn screen() -> Screen {
    Screen::new(Duration::from_secs(2), true)
}

fn drawn(width: u16, height: u16, model: &Model, screen: &mut Screen) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("it can't fail");
    terminal
        .draw(|frame| draw(frame, model, screen, "12:34:56 UTC"))
        .expect("it can't fail");
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let lines = buffer.content.chunks(width).map(|cells| {
        let line: String = cells.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

#[test]
fn it_fits_a_small_terminal() {
    let shown = text(&drawn(80, 24, &model(None), &mut screen()));
    insta::assert_snapshot!("80x24", shown);
}

#[test]
fn it_uses_a_large_one() {
    let shown = text(&drawn(140, 40, &model(None), &mut screen()));
    insta::assert_snapshot!("140x40", shown);
}

#[test]
fn one_namespace_help_and_nothing_at_all() {
    let shown = text(&drawn(80, 24, &model(Some("carts")), &mut screen()));
    assert!(
        shown.contains("disk full") && !shown.contains("sessions"),
        "{shown}"
    );
    let mut with_help = screen();
    with_help.key(KeyEvent::from(KeyCode::Char('h')));
    let shown = text(&drawn(80, 24, &model(None), &mut with_help));
    insta::assert_snapshot!("help", shown);
    let shown = text(&drawn(80, 24, &Model::default(), &mut screen()));
    assert!(
        shown.contains("none of these processes replicates"),
        "{shown}"
    );
}

#[test]
fn any_size_is_drawn() {
    let model = model(None);
    for (width, height) in [(1, 1), (5, 3), (20, 6), (80, 7), (300, 100)] {
        let mut screen = screen();
        drawn(width, height, &model, &mut screen);
        screen.has_help = true;
        drawn(width, height, &model, &mut screen);
    }
}

#[test]
fn what_does_not_fit_is_scrolled_to() {
    let (model, mut screen) = (model(None), screen());
    let shown = text(&drawn(80, 14, &model, &mut screen));
    assert!(
        shown.contains("1-4 of 8 ─") && !shown.contains("us-east-1 / "),
        "{shown}"
    );
    screen.key(KeyEvent::from(KeyCode::End));
    let shown = text(&drawn(80, 14, &model, &mut screen));
    assert!(
        shown.contains("5-8 of 8 ─") && shown.contains("us-east-1 / "),
        "{shown}"
    );
    // A larger terminal shows all of it again.
    let shown = text(&drawn(80, 40, &model, &mut screen));
    assert!(
        shown.contains("eu-west-1 / ") && !shown.contains(" of 8"),
        "{shown}"
    );
}

#[test]
fn the_greatest_lag_comes_first_if_wanted() {
    let (model, mut screen) = (model(None), screen());
    let order = |shown: &str| {
        let place = |text: &str| {
            shown
                .find(text)
                .unwrap_or_else(|| panic!("{text}: {shown}"))
        };
        place("  ap-south-1 down") < place("  us-east-1 ")
    };
    screen.key(KeyEvent::from(KeyCode::Char('s')));
    assert!(order(&text(&drawn(80, 24, &model, &mut screen))));
}

#[test]
fn colors_tell_what_is_wrong_and_can_be_had_without() {
    let model = model(None);
    let color_of = |buffer: &Buffer, wanted: &str| {
        let shown = text(buffer);
        let (y, line) = shown
            .lines()
            .enumerate()
            .find(|(_, line)| line.contains(wanted))
            .unwrap_or_else(|| panic!("{wanted}: {shown}"));
        let before = line.split_once(wanted).expect("it is there").0;
        let x = before.chars().count() as u16;
        buffer[(x, y as u16)].style()
    };
    let buffer = drawn(140, 40, &model, &mut screen());
    for (wanted, color) in [
        ("0.08s", Color::Green),
        ("15m00s", Color::Red),
        ("no leader among these", Color::Yellow),
        ("disk full", Color::Red),
        ("unreachable", Color::Red),
    ] {
        assert_eq!(color_of(&buffer, wanted).fg, Some(color), "{wanted}");
    }
    let mut plain = Screen::new(Duration::from_secs(2), false);
    let buffer = drawn(140, 40, &model, &mut plain);
    let is_plain =
        |cell: &ratatui::buffer::Cell| cell.fg == Color::Reset && cell.bg == Color::Reset;
    assert!(buffer.content.iter().all(is_plain));
    let bad = color_of(&buffer, "disk full").add_modifier;
    assert!(bad.contains(Modifier::REVERSED), "it is still marked");
}

#[test]
fn panels_share_the_height() {
    for (room, needed, expected) in [
        (20, [5, 5], [5, 15]),
        (20, [15, 15], [10, 10]),
        (20, [15, 4], [15, 5]),
        (20, [17, 4], [16, 4]),
        (20, [4, 30], [4, 16]),
        (0, [4, 30], [0, 0]),
    ] {
        assert_eq!(share(room, needed), expected, "{room} {needed:?}");
    }
}
