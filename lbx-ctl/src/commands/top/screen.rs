//! How `top` looks: a frame is a function of what is known and chosen, and of the time.

use std::time::Instant;

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout},
    style::{Color, Modifier, Style},
    text::{Line, Span, Text},
    widgets::{Cell, Paragraph, Row, Table},
};

use super::{
    rows::{amount, columns, totals},
    state::State,
};
use crate::{args::TopView, output::span};

/// Columns and lines that it needs.
pub const SMALLEST: (u16, u16) = (72, 8);
/// Lines around those of the table: two on top, the table's titles, and the keys.
pub const AROUND: u16 = 4;

/// Draws a frame.
pub fn draw(frame: &mut Frame<'_>, state: &State, now: Instant) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let (width, height) = SMALLEST;
        let text = format!(
            "The terminal has {}x{}, and {width}x{height} are needed. q quits.",
            area.width, area.height
        );
        frame.render_widget(Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true }), area);
        return;
    }
    let parts = [Constraint::Length(1), Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)];
    let [head, tabs, table, foot] = Layout::vertical(parts).areas(area);
    frame.render_widget(Paragraph::new(headline(state, now)), head);
    frame.render_widget(Paragraph::new(tab_line(state)), tabs);
    frame.render_widget(table_of(state), table);
    frame.render_widget(Paragraph::new(keys(state)), foot);
}

fn headline(state: &State, now: Instant) -> Line<'_> {
    if let Some((since, reason)) = &state.lost {
        let secs = now.saturating_duration_since(*since).as_secs();
        let text = format!("agent unreachable for {}: {reason}", span(secs));
        return Line::styled(text, bad(state).add_modifier(Modifier::BOLD));
    }
    let Some(last) = &state.now else { return Line::raw("asking the agent") };
    let (rates, drops) = totals(state.before.as_ref(), last);
    Line::raw(format!(
        "up {}  rev {}  in {} pkt/s {} bit/s  out {} pkt/s {} bit/s  drops {}/s",
        span(last.status.uptime_secs),
        last.status.revision,
        amount(rates.in_packets),
        amount(rates.in_bits),
        amount(rates.out_packets),
        amount(rates.out_bits),
        amount(drops)
    ))
}

fn tab_line(state: &State) -> Line<'_> {
    let tab = |view: TopView| {
        let style =
            if view == state.view { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        [Span::styled(format!(" {} ", view.as_str()), style), Span::raw(" ")]
    };
    let mut line: Vec<Span<'_>> = TopView::ALL.into_iter().flat_map(tab).collect();
    if state.paused {
        line.push(Span::styled("paused ", Style::new().add_modifier(Modifier::BOLD)));
    }
    if state.typing || !state.filter.is_empty() {
        line.push(Span::raw(format!("filter: {}{}", state.filter, if state.typing { "_" } else { "" })));
    }
    Line::from(line)
}

fn table_of(state: &State) -> Table<'_> {
    let columns = columns(state.view);
    let aligned = |text: String, (_, _, number): &(&str, u16, bool)| {
        let alignment = if *number { Alignment::Right } else { Alignment::Left };
        Cell::from(Text::from(text).alignment(alignment))
    };
    let titles = columns.iter().map(|column| aligned(column.0.to_owned(), column));
    let rows = state.rows();
    // Names take what they need, as far as the rest allows it.
    let longest = rows.iter().filter_map(|row| row.cells.first()).map(|name| name.chars().count()).max();
    let longest = u16::try_from(longest.unwrap_or(0)).unwrap_or(u16::MAX);
    let widths = columns.iter().enumerate().map(|(place, (_, width, _))| match place {
        0 => Constraint::Length(longest.clamp(*width, 2 * width)),
        _ if place + 1 == columns.len() => Constraint::Fill(1),
        _ => Constraint::Length(*width),
    });
    let lines = rows.into_iter().skip(state.top).map(|row| {
        let style = if row.trouble { bad(state) } else { Style::new() };
        Row::new(row.cells.into_iter().zip(columns).map(|(cell, column)| aligned(cell, column))).style(style)
    });
    Table::new(lines, widths).header(Row::new(titles).style(Style::new().add_modifier(Modifier::BOLD)))
}

fn keys(state: &State) -> Line<'_> {
    let text = if state.typing {
        "type what lines must have; enter: keep it, esc: all lines".to_owned()
    } else {
        format!("q quit  tab view  s sort: {}  / filter  p pause", state.sort.as_str())
    };
    Line::styled(text, Style::new().add_modifier(Modifier::DIM))
}

fn bad(state: &State) -> Style {
    if state.colours { Style::new().fg(Color::Red) } else { Style::new() }
}

#[cfg(test)]
mod tests;
