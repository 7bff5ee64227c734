//! A connection that is busy: a request on it five times a second, and how long each took to be answered.
//!
//! So a stall shows as a request that took long, whatever TCP did to repair it.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};

use crate::{client::Client, servers::HTTP_PORT, wait};

/// Time between the beginnings of two requests.
pub const INTERVAL: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that stays open, and who uses it.
pub struct Busy {
    answered: Arc<AtomicUsize>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Duration>>>,
}

impl Busy {
    /// Opens a connection to a VIP and begins to use it.
    pub fn start(client: &Client, vip: impl Into<IpAddr>) -> Result<Self> {
        // A request that takes longer than this is a failure, not a stall.
        let client = client.clone().with_timeout(PATIENCE);
        let mut connection = client.connect(vip, HTTP_PORT, 0)?;
        let (answered, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (Arc::clone(&answered), Arc::clone(&done));
        let thread = thread::Builder::new().name("busy".to_owned()).spawn(move || {
            let mut longest = Duration::ZERO;
            wait::every(INTERVAL, || {
                let began = Instant::now();
                if let Err(error) = connection.get() {
                    return Some(Err(error.context("on a busy connection")));
                }
                longest = longest.max(began.elapsed());
                count.fetch_add(1, Ordering::Relaxed);
                end.load(Ordering::Relaxed).then_some(Ok(longest))
            })
        });
        Ok(Self { answered, done, thread: Some(thread.context("cannot start a thread")?) })
    }

    /// Requests that were answered so far.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many requests were answered, or the connection broke, which [`Self::stop`] tells.
    pub fn wait_until(&self, count: usize) -> Result<()> {
        let missing = u32::try_from(count.saturating_sub(self.answered()))?;
        wait::until(&format!("{count} requests are answered"), PATIENCE + INTERVAL * missing, || {
            let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            Ok((ended || self.answered() >= count).then_some(()))
        })
    }

    /// Ends after one more request. The longest time that one took; an error where the connection broke.
    pub fn stop(mut self) -> Result<Duration> {
        self.done.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it was stopped already")?;
        thread.join().unwrap_or_else(|_| Err(anyhow!("the thread of a busy connection panicked")))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}
