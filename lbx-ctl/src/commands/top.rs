//! `top`: what happens now, drawn again and again. Owns the terminal while it runs and gives it back as it was, also
//! after a panic and when the agent goes away.

mod rows;
mod screen;
mod state;

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use ratatui::{DefaultTerminal, Terminal, backend::TestBackend, crossterm::event};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};

use self::{rows::Snapshot, state::State};
use super::Context;
use crate::{
    args::TopFlags,
    error::CliError,
    output::{self, Format},
};

/// Longest wait for an answer before the agent counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(5);
/// Columns of a frame that is printed where there is no terminal.
const COLUMNS: u16 = 120;

/// Draws until the user has seen enough, or prints one frame.
pub async fn run(context: &Context, flags: TopFlags) -> Result<(), CliError> {
    if context.format != Format::Table {
        let text = "`top` is for people: programs take the counters of `lbx-ctl stats -o json`, twice";
        return Err(CliError::Usage(text.to_owned()));
    }
    let mut state = State::new(flags.view, output::colours());
    if flags.once {
        return once(context, flags.interval, state).await;
    }
    if !io::stdout().is_terminal() {
        let text = "`top` draws on a terminal, which standard output is not: see `lbx-ctl top --once`, `lbx-ctl stats` \
                    or `lbx-ctl health --watch`";
        return Err(CliError::Usage(text.to_owned()));
    }
    // An agent that is not there from the start is an error like that of every command.
    state.take(Ok(Snapshot::fetch(&context.client).await?));
    let failed = |error: io::Error| CliError::Local(format!("cannot use the terminal: {error}"));
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let (sender, snapshots) = mpsc::channel(1);
    let result = tokio::select! {
        result = draw(&mut terminal, &mut state, snapshots) => result.map_err(failed),
        () = watch(context, flags.interval, sender) => Ok(()),
    };
    ratatui::restore();
    result
}

/// Two looks, and what happened between them.
async fn once(context: &Context, pause: Duration, mut state: State) -> Result<(), CliError> {
    state.take(Ok(Snapshot::fetch(&context.client).await?));
    tokio::time::sleep(pause).await;
    state.take(Ok(Snapshot::fetch(&context.client).await?));
    let (width, height) = (context.width.unwrap_or(COLUMNS).max(screen::SMALLEST.0), state.height());
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(frame) = terminal.draw(|frame| screen::draw(frame, &state, Instant::now()));
    let symbols: Vec<_> = frame.buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
    let lines = symbols.chunks(usize::from(width)).map(|line| line.concat().trim_end().to_owned() + "\n");
    // The last line names the keys.
    output::print(&lines.take(usize::from(height) - 1).collect::<String>())
}

/// Asks the agent again and again; ends when nobody wants to know any more.
async fn watch(context: &Context, pause: Duration, sender: mpsc::Sender<Result<Snapshot, String>>) {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let result = match timeout(PATIENCE, Snapshot::fetch(&context.client)).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        if sender.send(result).await.is_err() {
            return;
        }
    }
}

/// Draws whenever something is new.
async fn draw(
    terminal: &mut DefaultTerminal,
    state: &mut State,
    mut snapshots: mpsc::Receiver<Result<Snapshot, String>>,
) -> io::Result<()> {
    let mut events = events();
    let (mut terminate, mut hang_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    // For how long the agent is away grows also when nothing comes.
    let mut seconds = interval(Duration::from_secs(1));
    while !state.ended {
        terminal.draw(|frame| screen::draw(frame, state, Instant::now()))?;
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => state.event(&event?),
                None => return Ok(()),
            },
            Some(result) = snapshots.recv() => state.take(result),
            _ = seconds.tick() => {}
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
        }
    }
    Ok(())
}

/// What the user does. The thread ends with the process: it waits for a key.
fn events() -> mpsc::Receiver<io::Result<event::Event>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || while sender.blocking_send(event::read()).is_ok() {});
    receiver
}
