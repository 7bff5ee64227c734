//! What happened: the last events, in memory, and whoever follows them.
//!
//! Nobody who records an event waits for a reader, and a reader takes no memory for what it has not read: all read from
//! the same ring, and one that is too slow is told how much it has missed.
//!
//! Samples of flows may be very many, and say nothing of what became of lbx: they are told to those who follow, and not
//! kept.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use lbx_common::api::{Event, EventType, Happening};
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    broadcast::{self, error::RecvError},
    watch,
};
use tokio_util::sync::CancellationToken;

use crate::metrics::own::count_event;

/// How many may follow at a time. Each is a connection.
pub const FOLLOWERS: usize = 32;

/// Events that are kept at most,
const ENTRIES: usize = 4096;
/// and bytes that they take: a change of the configuration may be about very many objects.
const BYTES: usize = 8 << 20;

/// Samples of flows that a follower may be behind.
const SAMPLES: usize = 4096;

/// Bytes that a reader gets in one go, about.
const PORTION: usize = 64 * 1024;

/// So many follow already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{FOLLOWERS} clients follow the events already, and there may be no more: end one of them")]
pub struct TooManyError;

/// The events of this agent. A clone is another handle of the same.
#[derive(Clone)]
pub struct Events(Arc<Shared>);

struct Shared {
    journal: Mutex<Journal>,
    /// Number of the last event: followers wait for it to change.
    last: watch::Sender<u64>,
    samples: broadcast::Sender<Bytes>,
    seats: Arc<Semaphore>,
    over: CancellationToken,
}

/// What is kept: the events with the last numbers.
struct Journal {
    /// Number before that of this agent's first event.
    first: u64,
    /// Number that was given out last.
    last: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
}

/// An event, as readers get it.
struct Entry {
    of_type: EventType,
    line: Bytes,
}

impl Journal {
    fn push(&mut self, entry: Entry) {
        self.bytes += entry.line.len();
        self.entries.push_back(entry);
        while self.entries.len() > ENTRIES || (self.bytes > BYTES && self.entries.len() > 1) {
            self.bytes -= self.entries.pop_front().map_or(0, |oldest| oldest.line.len());
        }
    }

    /// Number before that of the oldest event that is kept.
    fn before_oldest(&self) -> u64 {
        self.last - self.entries.len() as u64
    }
}

impl Default for Events {
    fn default() -> Self {
        // Numbers go on from one agent to the next: nobody records a million events a second for long.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::after(u64::try_from(now.as_micros()).unwrap_or_default())
    }
}

impl Events {
    /// Nothing has happened yet; the first event gets the next number.
    fn after(first: u64) -> Self {
        Self(Arc::new(Shared {
            journal: Mutex::new(Journal { first, last: first, entries: VecDeque::new(), bytes: 0 }),
            last: watch::Sender::new(first),
            samples: broadcast::Sender::new(SAMPLES),
            seats: Arc::new(Semaphore::new(FOLLOWERS)),
            over: CancellationToken::new(),
        }))
    }

    /// Takes an event: it is counted, said in the log, and told to followers.
    pub fn record(&self, what: Happening) {
        let Some(of_type) = what.event_type() else { return };
        count_event(of_type);
        if of_type == EventType::ConfigurationRefused {
            tracing::error!("{what}");
        } else {
            tracing::info!(event = of_type.as_str(), "{what}");
        }
        let mut journal = self.journal();
        journal.last += 1;
        let number = journal.last;
        let line = line(number, what);
        journal.push(Entry { of_type, line });
        drop(journal);
        self.0.last.send_replace(number);
    }

    /// Tells a sample of a flow to those who follow. It has the number of the event before it.
    pub fn sample(&self, what: Happening) {
        count_event(EventType::FlowSample);
        if self.0.samples.receiver_count() > 0 {
            let number = self.journal().last;
            // Fails where nobody follows any more.
            let _nobody = self.0.samples.send(line(number, what));
        }
    }

    /// Reads what is kept of events after `since`, and ends.
    pub fn read(&self, since: u64, types: BTreeSet<EventType>) -> Reader {
        self.reader(since, types, None)
    }

    /// Goes on with what happens, after what is kept of events after `since`; without it, from now on.
    pub fn follow(&self, since: Option<u64>, types: BTreeSet<EventType>) -> Result<Reader, TooManyError> {
        let seat = Arc::clone(&self.0.seats).try_acquire_owned().map_err(|_| TooManyError)?;
        let since = since.unwrap_or_else(|| self.journal().last);
        let wants_samples = types.is_empty() || types.contains(&EventType::FlowSample);
        let samples = wants_samples.then(|| self.0.samples.subscribe());
        let follows = Follows { last: self.0.last.subscribe(), samples, sample: None, _seat: seat };
        Ok(self.reader(since, types, Some(follows)))
    }

    /// Ends what followers read: the agent stops.
    pub fn end(&self) {
        self.0.over.cancel();
    }

    fn reader(&self, since: u64, types: BTreeSet<EventType>, follows: Option<Follows>) -> Reader {
        let journal = self.journal();
        // What is larger was never given out: the clock was set back since.
        let at = if since > journal.last { journal.first } else { since.max(journal.first) };
        let before_this_agent = since != 0 && since < journal.first;
        let until = follows.is_none().then_some(journal.last);
        drop(journal);
        Reader { events: self.clone(), types, at, before_this_agent, until, follows }
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.0.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line of JSON.
fn line(number: u64, what: Happening) -> Bytes {
    let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    // Fails for no event: all of it is text and numbers.
    let mut line = serde_json::to_vec(&Event { number, time, what }).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// What a follower waits for.
struct Follows {
    last: watch::Receiver<u64>,
    /// Samples of flows, where they are wanted.
    samples: Option<broadcast::Receiver<Bytes>>,
    /// One that has come: it is read after the events before it.
    sample: Option<Bytes>,
    _seat: OwnedSemaphorePermit,
}

impl Follows {
    /// Waits for another event, or a sample. `at` is the number of the last event that was read; `None` when nothing
    /// will come any more.
    async fn wait(&mut self, at: u64) -> Option<()> {
        let Some(samples) = &mut self.samples else { return self.last.changed().await.ok() };
        tokio::select! {
            biased;
            changed = self.last.changed() => changed.ok(),
            sample = samples.recv() => {
                self.sample = Some(match sample {
                    Ok(sample) => sample,
                    Err(RecvError::Lagged(count)) => {
                        line(at, Happening::EventsLost { count: Some(count) })
                    }
                    Err(RecvError::Closed) => return None,
                });
                Some(())
            }
        }
    }

    /// Samples that have come, in one go.
    fn samples(&mut self) -> Option<Bytes> {
        let first = self.sample.take()?;
        let mut lines = BytesMut::from(first);
        while lines.len() < PORTION
            && let Some(Ok(more)) = self.samples.as_mut().map(broadcast::Receiver::try_recv)
        {
            lines.extend_from_slice(&more);
        }
        Some(lines.into())
    }
}

/// Somebody who reads events.
pub struct Reader {
    events: Events,
    /// Those that are wanted; none = all.
    types: BTreeSet<EventType>,
    /// Number of the last event that was read.
    at: u64,
    /// Whether it is to be told that nobody knows what happened before this agent.
    before_this_agent: bool,
    /// Number of the last event that is read, by one who does not follow.
    until: Option<u64>,
    follows: Option<Follows>,
}

impl Reader {
    /// Some more lines. Waits for them where this one follows; `None` at the end.
    pub async fn more(&mut self) -> Option<Bytes> {
        loop {
            let portion = self.portion();
            if !portion.is_empty() {
                return Some(portion);
            }
            let follows = self.follows.as_mut()?;
            if let Some(samples) = follows.samples() {
                return Some(samples);
            }
            tokio::select! {
                biased;
                more = follows.wait(self.at) => more?,
                () = self.events.0.over.cancelled() => return None,
            }
        }
    }

    fn portion(&mut self) -> Bytes {
        let mut lines = BytesMut::new();
        let journal = self.events.journal();
        let missed = journal.before_oldest().saturating_sub(self.at);
        let unknown = std::mem::take(&mut self.before_this_agent);
        if unknown || missed > 0 {
            let count = (!unknown).then_some(missed);
            lines.extend_from_slice(&line(self.at, Happening::EventsLost { count }));
        }
        self.at += missed;
        let next = usize::try_from(self.at - journal.before_oldest()).unwrap_or(usize::MAX);
        for entry in journal.entries.iter().skip(next) {
            if lines.len() >= PORTION || self.until.is_some_and(|until| self.at >= until) {
                break;
            }
            self.at += 1;
            if self.types.is_empty() || self.types.contains(&entry.of_type) {
                lines.extend_from_slice(&entry.line);
            }
        }
        lines.into()
    }
}
