//! Undoing what the harness did to the machine: at the end of a scope, after a panic, after Ctrl-C.
//!
//! Everything outside this process that the harness makes (namespaces, processes, pins, files) has a
//! [`Guard`]. A guard's action runs exactly once, whoever comes first: its scope or a signal.

use std::{
    process,
    sync::{Mutex, MutexGuard, Once, PoisonError, mpsc},
};

type Action = Box<dyn FnOnce() + Send>;

struct State {
    next_id: u64,
    /// In the order of creation; undone in the opposite one.
    actions: Vec<(u64, Action)>,
    /// Who wants to handle Ctrl-C itself.
    waiter: Option<mpsc::Sender<()>>,
}

static STATE: Mutex<State> = Mutex::new(State { next_id: 0, actions: Vec::new(), waiter: None });
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

/// From now on Ctrl-C, SIGTERM and SIGHUP send a message here instead of cleaning up and ending the process.
pub fn catch_interrupt() -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    state().waiter = Some(sender);
    receiver
}

fn on_signal() {
    let mut state = state();
    if let Some(waiter) = state.waiter.take() {
        // A waiter that is gone has left the program to end; the signal must not be lost on it.
        if waiter.send(()).is_ok() {
            state.waiter = Some(waiter);
            return;
        }
    }
    // The lock is held until the process ends, so nothing new is made meanwhile.
    while let Some((_, action)) = state.actions.pop() {
        action();
    }
    process::exit(INTERRUPTED);
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
