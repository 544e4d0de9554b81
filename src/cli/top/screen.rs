//! What a person has chosen to see, and what keys change of it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::time::Duration;

/// Intervals that + and - go through, in milliseconds.
const STEPS_MS: [u64; 9] = [250, 500, 1000, 2000, 5000, 10_000, 20_000, 30_000, 60_000];
/// Lines of a page that stay in sight on the next one.
const OVERLAP: usize = 1;

#[derive(Debug, Clone)]
pub(super) struct Screen {
    pub(super) interval: Duration,
    pub(super) is_paused: bool,
    pub(super) by_lag: bool,
    pub(super) has_help: bool,
    pub(super) has_colors: bool,
    /// Which panel keys scroll.
    pub(super) focus: usize,
    pub(super) panels: [Panel; 2],
}

/// A part of the screen that scrolls. Drawing sets how much there is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Panel {
    pub(super) first: usize,
    pub(super) height: usize,
    pub(super) lines: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Only what is shown changed, if anything.
    Show,
    /// Readings are to be taken at other times.
    Reschedule,
    Quit,
}

impl Screen {
    pub(super) fn new(interval: Duration, has_colors: bool) -> Screen {
        Screen {
            interval,
            is_paused: false,
            by_lag: false,
            has_help: false,
            has_colors,
            focus: 0,
            panels: [Panel::default(); 2],
        }
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::Show;
        }
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Action::Quit;
        }
        if self.has_help {
            // Any key ends it, Esc and q too.
            self.has_help = false;
            return Action::Show;
        }
        let page = self.panels[self.focus]
            .height
            .saturating_sub(OVERLAP)
            .max(1);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Action::Quit,
            KeyCode::Char('p') => {
                self.is_paused = !self.is_paused;
                return Action::Reschedule;
            }
            KeyCode::Char('+' | '=') => return self.step(true),
            KeyCode::Char('-') => return self.step(false),
            KeyCode::Char('s') => self.by_lag = !self.by_lag,
            KeyCode::Char('h' | '?') => self.has_help = true,
            KeyCode::Tab | KeyCode::BackTab | KeyCode::Left | KeyCode::Right => {
                self.focus = 1 - self.focus;
            }
            KeyCode::Down | KeyCode::Char('j') => self.scroll(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll(-1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll(page as isize),
            KeyCode::PageUp => self.scroll(-(page as isize)),
            KeyCode::Home => self.scroll(isize::MIN),
            KeyCode::End => self.scroll(isize::MAX),
            _ => {}
        }
        Action::Show
    }

    fn scroll(&mut self, lines: isize) {
        let panel = &mut self.panels[self.focus];
        panel.first = panel.first.saturating_add_signed(lines);
        panel.clamp();
    }

    fn step(&mut self, is_longer: bool) -> Action {
        let mut steps = STEPS_MS.map(Duration::from_millis).into_iter();
        let next = match is_longer {
            true => steps.find(|step| self.interval < *step),
            false => steps.rfind(|step| *step < self.interval),
        };
        self.interval = next.unwrap_or(self.interval);
        Action::Reschedule
    }
}

impl Panel {
    /// The last page is full.
    pub(super) fn clamp(&mut self) {
        self.first = self.first.min(self.lines.saturating_sub(self.height));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(screen: &mut Screen, codes: &[KeyCode]) -> Action {
        let press = |code: &KeyCode| screen.key(KeyEvent::from(*code));
        codes.iter().map(press).last().expect("there are some")
    }

    fn screen() -> Screen {
        let mut screen = Screen::new(Duration::from_secs(2), true);
        for panel in &mut screen.panels {
            (panel.height, panel.lines) = (10, 25);
        }
        screen
    }

    #[test]
    fn keys_end_it() {
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(press(&mut screen(), &[code]), Action::Quit);
            let help_ends_first = [KeyCode::Char('h'), code];
            assert_eq!(press(&mut screen(), &help_ends_first), Action::Show);
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen().key(interrupt), Action::Quit);
        assert_eq!(press(&mut screen(), &[KeyCode::Char('c')]), Action::Show);
    }

    #[test]
    fn keys_scroll_within_what_there_is() {
        for (codes, expected) in [
            (&[KeyCode::Down, KeyCode::Down, KeyCode::Up][..], [1, 0]),
            (&[KeyCode::Up][..], [0, 0]),
            (&[KeyCode::PageDown][..], [9, 0]),
            (&[KeyCode::PageDown, KeyCode::PageDown][..], [15, 0]),
            (&[KeyCode::End, KeyCode::PageUp][..], [6, 0]),
            (&[KeyCode::End, KeyCode::Home][..], [0, 0]),
            (&[KeyCode::Tab, KeyCode::Down][..], [0, 1]),
            (&[KeyCode::Tab, KeyCode::Tab, KeyCode::Down][..], [1, 0]),
        ] {
            let mut screen = screen();
            press(&mut screen, codes);
            assert_eq!(screen.panels.map(|one| one.first), expected, "{codes:?}");
        }
    }

    #[test]
    fn the_interval_goes_in_steps() {
        let (longer, shorter) = (KeyCode::Char('+'), KeyCode::Char('-'));
        for (ms, code, expected) in [
            (2000, longer, 5000),
            (2000, shorter, 1000),
            (3000, longer, 5000),
            (3000, shorter, 2000),
            (250, shorter, 250),
            (100, shorter, 100),
            (60_000, longer, 60_000),
        ] {
            let mut screen = screen();
            screen.interval = Duration::from_millis(ms);
            assert_eq!(press(&mut screen, &[code]), Action::Reschedule);
            assert_eq!(screen.interval, Duration::from_millis(expected), "{ms}");
        }
    }
}
