//! Frames, as a terminal would show them.

use std::time::Duration;

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers},
};

use super::*;
use crate::{commands::top::rows::Snapshot, samples};

fn snapshot(at: Instant) -> Snapshot {
    Snapshot { at, stats: samples::stats(), health: samples::health(), status: samples::status() }
}

/// Two looks with two seconds and some traffic between them.
fn state() -> State {
    let at = Instant::now();
    let (before, mut now) = (snapshot(at), snapshot(at + Duration::from_secs(2)));
    for traffic in [&mut now.stats.services[0].traffic, &mut now.stats.endpoints[0].traffic] {
        traffic.in_packets += 3000;
        traffic.in_bytes += 250_000;
        traffic.out_bytes += 2_500_000;
        traffic.tcp_syns += 5;
    }
    now.stats.drops[1].packets += 8;
    let mut state = State::new(TopView::Services, true);
    state.take(Ok(before));
    state.take(Ok(now));
    state
}

fn press(state: &mut State, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\t' => KeyCode::Tab,
            '\n' => KeyCode::Enter,
            '<' => KeyCode::Left,
            other => KeyCode::Char(other),
        };
        state.event(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }
}

/// The lines of a frame, without blanks at their ends.
fn frame(state: &State, width: u16, height: u16) -> Vec<String> {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(drawn) = terminal.draw(|frame| draw(frame, state, Instant::now()));
    let cells: Vec<_> = drawn.buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
    cells.chunks(usize::from(width)).map(|line| line.concat().trim_end().to_owned()).collect()
}

#[test]
fn services_come_with_rates_at_80_columns() {
    let lines = frame(&state(), 80, 24);
    assert!(
        lines[0].ends_with("in 1.5k pkt/s 1.0M bit/s  out 0 pkt/s 10.0M bit/s  drops 4.0/s"),
        "{lines:#?}"
    );
    assert_eq!(lines[2], "SERVICE          IN PKT/S IN BIT/S OUT PKT/S OUT BIT/S  SYN/S SERVED BY");
    assert!(
        lines[3].starts_with("web                  1.5k     1.0M         0     10.0M    2.5 "),
        "{lines:#?}"
    );
    assert!(lines[23].starts_with("q quit"), "{lines:#?}");
}

#[test]
fn keys_turn_the_views_around() {
    let mut state = state();
    press(&mut state, "\t");
    let lines = frame(&state, 80, 24);
    assert!(
        lines[3].starts_with("web/a            unhealthy") && lines[3].contains("connection"),
        "{lines:#?}"
    );
    press(&mut state, "\t");
    let lines = frame(&state, 80, 24);
    assert!(lines[4].starts_with("no_listener                 4.0           15 -"), "{lines:#?}");
    press(&mut state, "\t");
    assert!(frame(&state, 80, 24)[2].starts_with("TUNNEL"));
    press(&mut state, "\t");
    assert_eq!(state.view, TopView::Services);
    press(&mut state, "<");
    assert_eq!(state.view, TopView::Tunnels);
}

#[test]
fn a_filter_is_typed_and_lines_are_sorted() {
    let mut state = state();
    press(&mut state, "\t\t/list");
    assert!(frame(&state, 80, 24)[1].ends_with("filter: list_"), "{:#?}", frame(&state, 80, 24));
    press(&mut state, "\nq");
    assert_eq!((state.rows().len(), state.ended), (1, true));
    press(&mut state, "/\ns");
    let reasons: Vec<_> = state.rows().into_iter().map(|row| row.cells[0].clone()).collect();
    assert_eq!(reasons, ["no_listener", "unknown_remote"], "most first");
}

#[test]
fn a_pause_keeps_what_is_shown() {
    let mut state = state();
    let shown = frame(&state, 80, 24);
    press(&mut state, "p");
    state.take(Ok(snapshot(Instant::now() + Duration::from_secs(9))));
    let paused = frame(&state, 80, 24);
    assert_eq!((&paused[0], &paused[3..]), (&shown[0], &shown[3..]));
    assert!(paused[1].ends_with("paused"), "{paused:#?}");
}

#[test]
fn an_agent_that_is_gone_is_told_and_the_last_figures_stay() {
    let mut state = state();
    state.take(Err("no lbx agent is listening".to_owned()));
    let lines = frame(&state, 80, 24);
    assert_eq!(lines[0], "agent unreachable for 0s: no lbx agent is listening");
    assert!(lines[3].starts_with("web "), "{lines:#?}");
    state.take(Ok(snapshot(Instant::now() + Duration::from_secs(9))));
    assert!(frame(&state, 80, 24)[0].starts_with("up "));
}

#[test]
fn a_terminal_that_is_too_small_is_told_so() {
    let text = frame(&state(), 40, 5).join(" ");
    assert!(text.starts_with("The terminal has 40x5, and 72x8 are"), "{text}");
    assert!(frame(&state(), 72, 8)[2].starts_with("SERVICE"));
}

#[test]
fn red_is_for_trouble_and_not_where_colours_are_off() {
    let red = |state: &State| {
        let Ok(mut terminal) = Terminal::new(TestBackend::new(80, 24));
        let Ok(drawn) = terminal.draw(|frame| draw(frame, state, Instant::now()));
        drawn.buffer.content().iter().filter(|cell| cell.fg == Color::Red).count()
    };
    let mut state = state();
    press(&mut state, "\t");
    assert!(red(&state) > 0);
    state.colours = false;
    assert_eq!(red(&state), 0);
}
