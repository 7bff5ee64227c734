//! What the service manager is told (`sd_notify(3)`): that the agent is ready, reads its configuration again, stops,
//! and that the task of the data plane is alive. Where none asked to be told, nothing is; a message that does not
//! arrive stops nothing.

use std::{
    env, future, io,
    sync::{
        LazyLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use lbx_common::api::Revision;
use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Signs of life within the time after which the service manager takes the agent for hung.
const SIGNS: u32 = 3;
/// Messages that may wait for a service manager that does not read them; what comes then is not told.
const WAITING: usize = 16;

/// The way to the thread that tells: a send waits as long as the service manager reads nothing, which must hold up
/// nobody else.
static TELLER: LazyLock<Option<SyncSender<Message>>> = LazyLock::new(|| {
    env::var_os("NOTIFY_SOCKET")?;
    let (sender, messages) = sync_channel(WAITING);
    let thread = thread::Builder::new().name("notify".to_owned()).spawn(move || tell_all(&messages));
    thread.inspect_err(say).is_ok().then_some(sender)
});

enum Message {
    /// With a line for the user.
    Ready(String),
    Reloading,
    Stopping,
    Alive,
}

/// The agent has its configuration in force, and answers.
pub fn ready(revision: Revision) {
    tell(Message::Ready(format!("revision {revision} in force")));
}

/// It begins to read its configuration again. Either [`ready`] or [`kept`] follows.
pub fn reloading() {
    tell(Message::Reloading);
}

/// The one before stays in force.
pub fn kept(revision: Revision) {
    tell(Message::Ready(format!("revision {revision} in force; the file has mistakes, see the log")));
}

/// The agent stops.
pub fn stopping() {
    tell(Message::Stopping);
}

fn tell(message: Message) {
    if let Some(teller) = TELLER.as_ref()
        && teller.try_send(message).is_err()
    {
        tracing::debug!("the service manager does not read what it is told");
    }
}

fn tell_all(messages: &Receiver<Message>) {
    for message in messages {
        let told = match message {
            Message::Ready(status) => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&status)]),
            // systemd 253 and newer want to know when.
            Message::Reloading => NotifyState::monotonic_usec_now()
                .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
            Message::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
            Message::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        };
        if let Err(error) = &told {
            say(error);
        }
    }
}

fn say(error: &io::Error) {
    tracing::warn!(%error, "cannot tell the service manager");
}

/// Signs of life of one task, which gives them from its own loop: one that hangs gives none.
pub struct Watchdog(Option<Interval>);

impl Watchdog {
    /// As the service manager wants it.
    pub fn from_environment() -> Self {
        Self::every(sd_notify::watchdog_enabled())
    }

    /// Gives signs so that none of these spans of time passes without one.
    fn every(limit: Option<Duration>) -> Self {
        let between = limit.map(|limit| limit / SIGNS).filter(|between| !between.is_zero());
        Self(between.map(|between| {
            let mut interval = interval(between);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        }))
    }

    /// Ends when a sign is due; never where nobody wants one.
    pub async fn due(&mut self) {
        match &mut self.0 {
            Some(interval) => drop(interval.tick().await),
            None => future::pending().await,
        }
    }

    /// Gives a sign.
    pub fn alive(&self) {
        tell(Message::Alive);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn signs_are_due_three_times_within_the_limit_and_at_once() {
        let mut watchdog = Watchdog::every(Some(Duration::from_secs(3)));
        assert_eq!(watchdog.0.as_ref().unwrap().period(), Duration::from_secs(1));
        watchdog.due().await;
    }

    #[tokio::test]
    async fn without_a_limit_none_is_due() {
        for limit in [None, Some(Duration::ZERO)] {
            let mut watchdog = Watchdog::every(limit);
            let due = tokio::time::timeout(Duration::from_millis(20), watchdog.due()).await;
            assert!(due.is_err(), "{limit:?}");
        }
    }
}
