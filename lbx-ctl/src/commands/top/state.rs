//! What the user of `top` has chosen, and what came from the agent. Draws nothing, asks nobody.

use std::time::Instant;

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::rows::{Row, Snapshot, rows};
use crate::args::TopView;

/// The order of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// As configured.
    Configured,
    /// Most traffic first.
    Traffic,
    /// What is wrong first.
    Trouble,
}

impl Sort {
    /// Name on the screen.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configured => "as configured",
            Self::Traffic => "traffic",
            Self::Trouble => "trouble",
        }
    }
}

/// All that a frame is drawn from.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct State {
    /// Which table.
    pub view: TopView,
    /// In which order.
    pub sort: Sort,
    /// Only lines with this text.
    pub filter: String,
    /// The filter is being typed.
    pub typing: bool,
    /// What is shown stays.
    pub paused: bool,
    /// First line that is shown.
    pub top: usize,
    /// The user wants to leave.
    pub ended: bool,
    /// Colours may be used.
    pub colours: bool,
    /// The look before the last.
    pub before: Option<Snapshot>,
    /// The last look.
    pub now: Option<Snapshot>,
    /// Since when the agent does not answer, and why.
    pub lost: Option<(Instant, String)>,
}

impl State {
    /// Nothing is known yet.
    pub fn new(view: TopView, colours: bool) -> Self {
        Self {
            view,
            sort: Sort::Configured,
            filter: String::new(),
            typing: false,
            paused: false,
            top: 0,
            ended: false,
            colours,
            before: None,
            now: None,
            lost: None,
        }
    }

    /// Takes what the agent said, or why it did not.
    pub fn take(&mut self, result: Result<Snapshot, String>) {
        match result {
            Err(reason) => {
                let since = self.lost.take().map_or_else(Instant::now, |(since, _)| since);
                self.lost = Some((since, reason));
            }
            Ok(snapshot) => {
                self.lost = None;
                if !self.paused || self.now.is_none() {
                    self.before = self.now.replace(snapshot);
                }
            }
        }
    }

    /// The lines of the view, filtered and sorted.
    pub fn rows(&self) -> Vec<Row> {
        let Some(now) = &self.now else { return Vec::new() };
        let mut rows = rows(self.view, self.before.as_ref(), now);
        rows.retain(|row| row.cells.iter().any(|cell| cell.contains(&self.filter)));
        match self.sort {
            Sort::Configured => {}
            Sort::Traffic => rows.sort_by(|one, other| other.traffic.total_cmp(&one.traffic)),
            Sort::Trouble => rows.sort_by_key(|row| !row.trouble),
        }
        rows
    }

    /// Lines of a frame that shows all.
    pub fn height(&self) -> u16 {
        u16::try_from(self.rows().len())
            .unwrap_or(u16::MAX)
            .saturating_add(super::screen::AROUND)
            .max(super::screen::SMALLEST.1)
    }

    /// Does what a key says.
    pub fn event(&mut self, event: &Event) {
        let Event::Key(KeyEvent {
            code, modifiers, kind: KeyEventKind::Press | KeyEventKind::Repeat, ..
        }) = event
        else {
            return;
        };
        if modifiers.contains(KeyModifiers::CONTROL) && *code == KeyCode::Char('c') {
            self.ended = true;
        } else if self.typing {
            self.type_filter(*code);
        } else {
            self.command(*code);
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "there are many other keys")]
    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => (self.typing, self.filter) = (false, String::new()),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) => self.filter.push(character),
            _ => {}
        }
        self.top = 0;
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "there are many other keys")]
    fn command(&mut self, code: KeyCode) {
        let last = self.rows().len().saturating_sub(1);
        match code {
            KeyCode::Char('q') | KeyCode::Esc => self.ended = true,
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(TopView::ALL.len() - 1),
            KeyCode::Char('s') => {
                self.sort = match self.sort {
                    Sort::Configured => Sort::Traffic,
                    Sort::Traffic => Sort::Trouble,
                    Sort::Trouble => Sort::Configured,
                };
            }
            KeyCode::Char('/') => (self.typing, self.filter) = (true, String::new()),
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Down => self.top = (self.top + 1).min(last),
            KeyCode::Up => self.top = self.top.saturating_sub(1),
            KeyCode::PageDown => self.top = (self.top + 10).min(last),
            KeyCode::PageUp => self.top = self.top.saturating_sub(10),
            KeyCode::Home => self.top = 0,
            KeyCode::End => self.top = last,
            _ => {}
        }
    }

    /// Goes on by so many views, around.
    fn turn(&mut self, by: usize) {
        let place = TopView::ALL.iter().position(|view| *view == self.view).unwrap_or(0);
        self.view = TopView::ALL.into_iter().cycle().nth(place + by).unwrap_or(self.view);
        self.top = 0;
    }
}
