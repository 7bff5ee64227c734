//! Where the configuration lives: a database of the agent's own, or a file that belongs to the user.
//!
//! A store keeps and hands out configurations. Whether one is right is for `config` to say, and when to
//! read or write is for the agent.

mod embedded;
mod file;
pub mod seed;
mod verdicts;
pub mod watched;

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use lbx_common::api::{Config, Mistake, Revision};

pub use embedded::Embedded;
pub use file::ConfigFile;
pub use verdicts::{LastVerdicts, NoVerdictsError};

/// Why a store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{action} {path}: {source}{}", remedy(source))]
    Io {
        /// What was tried, as `cannot open`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        source: std::io::Error,
    },
    /// Another process has the database open.
    #[error(
        "{0} is in use by another lbx-agent: stop that one first, or give this one a --state-dir of its own"
    )]
    InUse(PathBuf),
    /// The database cannot be read.
    #[error(
        "{path} is damaged: {reason}. Move it away, start the agent and restore the configuration with \
         `lbx-ctl apply -f FILE`; forwarding goes on meanwhile"
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The database was not written. The configuration from before is still stored.
    #[error("cannot store the configuration in {path}: {reason}; the stored one is unchanged")]
    NotWritten {
        /// The database.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The file has mistakes.
    #[error("{path} has {} mistake(s):\n{}", mistakes.len(), lines(path, mistakes))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All of them, located.
        mistakes: Vec<Mistake>,
    },
    /// The configuration belongs to the user's file.
    #[error("{0} holds the configuration: change that file, the agent reloads it by itself")]
    ReadOnly(PathBuf),
    /// Changes of the file cannot be seen.
    #[error(
        "cannot watch {path} for changes: {reason}. Does it exist, and do fs.inotify.max_user_watches and \
         max_user_instances allow one more?"
    )]
    Watch {
        /// The folder of the file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

fn remedy(error: &std::io::Error) -> &'static str {
    if error.kind() == ErrorKind::PermissionDenied {
        " (run as root, or as the user that owns it)"
    } else if error.kind() == ErrorKind::StorageFull {
        " (free some space)"
    } else {
        ""
    }
}

fn lines(path: &Path, mistakes: &[Mistake]) -> String {
    let file = path.display().to_string();
    mistakes.iter().map(|mistake| mistake.in_file(&file)).collect::<Vec<_>>().join("\n")
}

/// The store that the agent was started with.
#[derive(Debug)]
pub enum Store {
    /// `STATE_DIR/lbx.redb`.
    Embedded(Embedded),
    /// `--config FILE`.
    File(ConfigFile),
}

impl Store {
    /// The store of `--config FILE` where that is given, else the database in `state_dir`.
    pub fn open(config: Option<&Path>, state_dir: &Path) -> Result<Self, StoreError> {
        match config {
            Some(path) => ConfigFile::open(path).map(Self::File),
            None => Embedded::open(state_dir).map(Self::Embedded),
        }
    }

    /// The configuration and its revision; `None` where nothing was ever stored. Of a file, it is valid.
    pub fn load(&mut self) -> Result<Option<(Revision, Config)>, StoreError> {
        match self {
            Self::Embedded(store) => store.load(),
            Self::File(file) => file.load().map(Some),
        }
    }

    /// Stores the configuration. It is on disk when this returns.
    pub fn save(&mut self, revision: Revision, config: &Config) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.save(revision, config),
            Self::File(file) => Err(StoreError::ReadOnly(file.path().to_owned())),
        }
    }

    /// Waits until the user's file has another content than at the last [`Self::load`]. Nobody but the agent
    /// changes the database, so for that this never returns. May be dropped and called again at any time.
    pub async fn changed(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Embedded(_) => std::future::pending().await,
            Self::File(file) => file.changed().await,
        }
    }

    /// The user's file, where the configuration belongs to one and the API must not change it.
    pub fn read_only(&self) -> Option<&Path> {
        match self {
            Self::Embedded(_) => None,
            Self::File(file) => Some(file.path()),
        }
    }

    /// `embedded PATH` or `file PATH`, for `lbx-ctl status`.
    pub fn describe(&self) -> String {
        match self {
            Self::Embedded(store) => format!("embedded {}", store.path().display()),
            Self::File(file) => format!("file {}", file.path().display()),
        }
    }
}

#[cfg(test)]
mod tests;
