//! Undoing what the harness did to the machine: at the end of a scope, after a panic, after Ctrl-C.
//!
//! Everything outside this process that the harness makes (namespaces, processes, pins, files) has a
//! [`Guard`]. A guard's action runs exactly once, whoever comes first: its scope or a signal.

use std::{
    process,
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread,
};

type Action = Box<dyn FnOnce() + Send>;
type Handler = Box<dyn FnMut() -> bool + Send>;

struct State {
    next_id: u64,
    /// In the order of creation; undone in the opposite one.
    actions: Vec<(u64, Action)>,
    /// Who wants to handle Ctrl-C itself.
    handler: Option<Handler>,
    /// The process is about to end: nothing new may be made.
    ending: bool,
}

static STATE: Mutex<State> =
    Mutex::new(State { next_id: 0, actions: Vec::new(), handler: None, ending: false });
static HANDLER: Once = Once::new();

/// Exit status of a process that ended because of Ctrl-C, as shells report it.
const INTERRUPTED: i32 = 130;

/// Runs an action when dropped, or when the process is told to end.
#[must_use = "the action runs as soon as the guard is dropped"]
pub struct Guard {
    id: u64,
}

impl Guard {
    /// Registers `action`.
    pub fn new(action: impl FnOnce() + Send + 'static) -> Self {
        HANDLER.call_once(|| {
            // Fails only where the program has set a handler itself; cleaning up is then its business.
            if let Err(error) = ctrlc::set_handler(on_signal) {
                eprintln!("lbx-tests: Ctrl-C will leave namespaces behind: {error}");
            }
        });
        let mut state = state();
        if state.ending {
            drop(state);
            action();
            // The process ends as soon as the actions of the others are through.
            loop {
                thread::park();
            }
        }
        let id = state.next_id;
        state.next_id += 1;
        state.actions.push((id, Box::new(action)));
        Self { id }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let action = {
            let mut state = state();
            let place = state.actions.iter().position(|(id, _)| *id == self.id);
            place.map(|place| state.actions.remove(place).1)
        };
        if let Some(action) = action {
            action();
        }
    }
}

/// From now on Ctrl-C, SIGTERM and SIGHUP call `handler`. Where it answers false, and for all signals after
/// that, everything is cleaned up and the process ends, as it is without a handler.
pub fn on_interrupt(handler: impl FnMut() -> bool + Send + 'static) {
    state().handler = Some(Box::new(handler));
}

fn on_signal() {
    let handler = state().handler.take();
    if let Some(mut handler) = handler
        && handler()
    {
        state().handler = Some(handler);
        return;
    }
    state().ending = true;
    // An action runs without the lock: what it owns may have guards of its own.
    while let Some(action) = next_action() {
        action();
    }
    process::exit(INTERRUPTED);
}

fn next_action() -> Option<Action> {
    state().actions.pop().map(|(_, action)| action)
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
