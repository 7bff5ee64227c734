//! Waiting for something that sends no event, and doing something at a steady pace.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

const STEP: Duration = Duration::from_millis(10);

/// Asks `question` until it answers with a value; an error when `limit` has passed, naming `what`.
pub fn until<T>(what: &str, limit: Duration, mut question: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = question()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain: {what}");
        }
        thread::sleep(STEP);
    }
}

/// Does something again and again, beginning every `interval` where that is long enough, until it answers.
pub fn every<T>(interval: Duration, mut action: impl FnMut() -> Option<T>) -> T {
    let mut due = Instant::now();
    loop {
        if let Some(answer) = action() {
            return answer;
        }
        due = (due + interval).max(Instant::now());
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
