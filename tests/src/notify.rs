//! The service manager's end of `sd_notify(3)`: what the agent tells, as it comes.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// A socket that an agent may tell its state to.
pub struct ServiceManager {
    socket: UnixDatagram,
    path: PathBuf,
}

/// One message: assignments, one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message(String);

impl Message {
    /// Whether this line is in it.
    pub fn has(&self, line: &str) -> bool {
        self.0.lines().any(|one| one == line)
    }

    /// What the message sets a variable to.
    pub fn value(&self, variable: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(variable)?.strip_prefix('='))
    }
}

impl ServiceManager {
    /// Listens at `path`.
    pub fn listen(path: &Path) -> Result<Self> {
        let socket =
            UnixDatagram::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Has a command tell its state here, and, with a limit, give signs of life.
    pub fn watch(&self, command: &mut Command, limit: Option<Duration>) {
        command.env("NOTIFY_SOCKET", &self.path);
        if let Some(limit) = limit {
            command.env("WATCHDOG_USEC", limit.as_micros().to_string());
        }
    }

    /// The next message; `None` when there is none in time.
    pub fn next(&self, limit: Duration) -> Result<Option<Message>> {
        self.socket.set_read_timeout(Some(limit.max(Duration::from_millis(1))))?;
        let mut buffer = vec![0; 4096];
        match crate::client::uninterrupted(|| self.socket.recv(&mut buffer)) {
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                Ok(Some(Message(String::from_utf8_lossy(bytes).into_owned())))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the first message with this line.
    pub fn wait_for(&self, line: &str, limit: Duration) -> Result<Message> {
        let deadline = Instant::now() + limit;
        let mut others = Vec::new();
        while let Some(message) = self.next(deadline.saturating_duration_since(Instant::now()))? {
            if message.has(line) {
                return Ok(message);
            }
            others.push(message);
        }
        bail!("waited {limit:?} in vain for {line}; there were {others:?}")
    }

    /// All messages that have come, up to now.
    pub fn drain(&self) -> Result<Vec<Message>> {
        let mut all = Vec::new();
        while let Some(message) = self.next(Duration::ZERO)? {
            all.push(message);
        }
        Ok(all)
    }
}
