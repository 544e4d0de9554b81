//! Draws the screen: a line with what there is, two panels that share the
//! height by what they need, a line with the keys.

use super::model::Model;
use super::screen::{Panel, Screen};
use super::table::{Cell, Line, Table, Tone};
use super::view;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

const KEYS: &str = "q quit  p pause  +/- interval  Tab panel  arrows scroll  s sort by lag  h help";
/// The lines of a panel above its rows: what it is, and the columns.
const PANEL_HEAD: u16 = 2;

const HELP: &[&str] = &[
    "q, Esc, Ctrl-C  end",
    "p               pause, and go on",
    "+ -             longer, shorter interval",
    "Tab             the other panel; arrows, PgUp, PgDn, Home, End scroll it",
    "s               sort by lag, or by name",
    "",
    "LAG        age of the oldest change that is not applied; from 5 s on",
    "           a warning, from 60 s on bad",
    "BEHIND     changes that were read and are not applied",
    "CONFLICTS  changes that another region's were preferred to",
    "GAPS       records that were acknowledged and are missing: loss",
    "SKEW       how far the source's clock is ahead",
    "R, W p99   what 99 of 100 batches of reads, of writes take at most",
    "DURABLE    until a record is on disk, or acknowledged by Kafka",
    "Rates and latencies are of the last interval.",
];

/// `now` is the time of day.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, screen: &mut Screen, now: &str) {
    let area = frame.area();
    let line = |y: u16| Rect::new(area.x, y, area.width, 1).intersection(area);
    let tables = [view::sources(model, screen.by_lag), view::sidecars(model)];
    render(frame, line(area.y), &header(model, screen, now), screen);
    let width = usize::from(area.width);
    let laid_out = tables.each_ref().map(|table| table.lines(width));
    let room = area.height.saturating_sub(2 + 2 * PANEL_HEAD);
    let needed = laid_out.each_ref().map(|(_, lines)| lines.len());
    let heights = share(usize::from(room), needed);
    let mut y = area.y + 1;
    for (index, (titles, lines)) in laid_out.iter().enumerate() {
        let panel = &mut screen.panels[index];
        (panel.height, panel.lines) = (heights[index], lines.len());
        panel.clamp();
        let panel = *panel;
        let head = rule(&tables[index], &panel, screen.focus == index, width);
        render(frame, line(y), &head, screen);
        let titles = titles
            .iter()
            .map(|cell| Cell::new(cell.text.clone(), Tone::Strong));
        render(frame, line(y + 1), &titles.collect(), screen);
        y += PANEL_HEAD;
        for shown in lines.iter().skip(panel.first).take(panel.height) {
            render(frame, line(y), shown, screen);
            y += 1;
        }
        y += (panel.height - panel.height.min(panel.lines)) as u16;
    }
    let keys = vec![Cell::new(KEYS, Tone::Dim)];
    render(frame, line(area.bottom().saturating_sub(1)), &keys, screen);
    if screen.has_help {
        help(frame, area);
    }
}

fn header(model: &Model, screen: &Screen, now: &str) -> Line {
    let mut line = vec![
        Cell::new("wal-sidecar top", Tone::Strong),
        Cell::plain(format!("  {now}  ")),
    ];
    if screen.is_paused {
        line.push(Cell::new("paused  ", Tone::Warning));
    }
    line.extend(view::summary(model));
    let every = screen.interval.as_secs_f64();
    line.push(Cell::plain(format!("  every {every}s")));
    line
}

/// The heights of two panels that need so many lines each: none takes more
/// than half from one that needs it.
fn share(room: usize, [first, second]: [usize; 2]) -> [usize; 2] {
    let half = room / 2;
    let first = match () {
        () if first + second <= room || first <= half => first.min(room),
        () if second <= half => room - second,
        () => room - half,
    };
    [first, room - first]
}

/// `─ Replication ───── 4-12 of 30 ─`
fn rule(table: &Table, panel: &Panel, is_focused: bool, width: usize) -> Line {
    let tone = if is_focused { Tone::Strong } else { Tone::Dim };
    let title = format!("─ {} ", table.title);
    let shown = match panel.lines <= panel.height {
        true => String::new(),
        false => {
            let last = (panel.first + panel.height).min(panel.lines);
            format!(" {}-{last} of {} ─", panel.first + 1, panel.lines)
        }
    };
    let taken = title.chars().count() + shown.chars().count();
    let rest = "─".repeat(width.saturating_sub(taken));
    vec![
        Cell::new(title, tone),
        Cell::new(rest, Tone::Dim),
        Cell::new(shown, tone),
    ]
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let widest = HELP.iter().map(|line| line.len()).max().unwrap_or(0);
    let (width, height) = (widest as u16 + 4, HELP.len() as u16 + 2);
    let place = Rect::new(
        area.x + area.width.saturating_sub(width) / 2,
        area.y + area.height.saturating_sub(height) / 2,
        width,
        height,
    );
    let place = place.intersection(area);
    let lines: Vec<Text<'_>> = HELP
        .iter()
        .map(|line| Text::raw(format!(" {line}")))
        .collect();
    let block = Block::bordered().title(" Keys and columns; any key goes on ");
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

fn render(frame: &mut Frame<'_>, place: Rect, line: &Line, screen: &Screen) {
    let spans = line.iter().map(|cell| {
        let style = style(cell.tone, screen.has_colors);
        Span::styled(cell.text.as_str(), style)
    });
    frame.render_widget(Text::from_iter(spans), place);
}

fn style(tone: Tone, has_colors: bool) -> Style {
    let style = Style::new();
    match tone {
        Tone::Plain => style,
        Tone::Strong => style.add_modifier(Modifier::BOLD),
        Tone::Dim => style.add_modifier(Modifier::DIM),
        Tone::Good if has_colors => style.fg(Color::Green),
        Tone::Warning if has_colors => style.fg(Color::Yellow),
        Tone::Bad if has_colors => style.fg(Color::Red).add_modifier(Modifier::BOLD),
        Tone::Good => style,
        Tone::Warning => style.add_modifier(Modifier::BOLD),
        Tone::Bad => style.add_modifier(Modifier::BOLD | Modifier::REVERSED),
    }
}

#[cfg(test)]
mod tests;
