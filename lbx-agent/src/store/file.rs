//! `--config FILE`: the user's file is the whole truth. It is read and watched, never written.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use lbx_common::api::{Config, Mistake, Revision};
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind},
};
use tokio::sync::mpsc;

use crate::config::{MAX_BYTES, load_model};

use super::StoreError;

/// The user's configuration file.
pub struct ConfigFile {
    path: PathBuf,
    revision: Revision,
    /// Content at the last load, right or wrong.
    loaded: Option<Vec<u8>>,
    events: mpsc::Receiver<()>,
    /// Whether something has happened since the file was looked at.
    look: bool,
    watcher: RecommendedWatcher,
    /// Where the file really is, when it is a symbolic link.
    target_dir: Option<PathBuf>,
}

impl std::fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ConfigFile {
    /// Begins to watch `path`. The file is read by [`Self::load`] only.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let path = std::path::absolute(path).map_err(|source| StoreError::Io {
            action: "cannot open",
            path: path.to_owned(),
            source,
        })?;
        // One place is enough: an event that waits there stands for all that come until it is taken.
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error means that events may be lost: then the file must be looked at as well.
            if event.as_ref().map_or(true, is_complete) {
                let _waiting = sender.try_send(());
            }
        })
        .map_err(|error| watching(&path, &error))?;
        let mut file =
            Self { path, revision: 0, loaded: None, events, look: true, watcher, target_dir: None };
        // Editors and ConfigMaps replace the file, so it is the folder that must be watched.
        let dir = file.path.parent().unwrap_or(Path::new("/")).to_owned();
        file.watcher.watch(&dir, RecursiveMode::NonRecursive).map_err(|error| watching(&dir, &error))?;
        file.follow();
        Ok(file)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and validates the file. The revision counts the different contents that were loaded.
    pub fn load(&mut self) -> Result<(Revision, Config), StoreError> {
        let bytes = self.read().map_err(|source| StoreError::Io {
            action: "cannot read",
            path: self.path.clone(),
            source,
        })?;
        let invalid = |mistakes| StoreError::Invalid { path: self.path.clone(), mistakes };
        let result = match std::str::from_utf8(&bytes) {
            Ok(text) => load_model(text).map_err(invalid),
            Err(error) => Err(invalid(vec![not_text(&bytes, error)])),
        };
        let is_new = self.loaded.as_ref() != Some(&bytes);
        self.loaded = Some(bytes);
        let model = result?;
        if is_new || self.revision == 0 {
            self.revision += 1;
        }
        Ok((self.revision, model.config))
    }

    /// Waits until the content differs from the one loaded last. A file that is gone is not a change: it
    /// may be about to be replaced.
    pub async fn changed(&mut self) -> Result<(), StoreError> {
        loop {
            // Not at each call: between two events a writer may be at work.
            if self.look {
                match self.read() {
                    Ok(bytes) if self.loaded.as_ref() != Some(&bytes) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(
                            "cannot read {}: {error}; its last content stays in force",
                            self.path.display()
                        );
                    }
                }
                self.look = false;
            }
            if self.events.recv().await.is_none() {
                let reason = "the watcher ended".to_owned();
                return Err(StoreError::Watch { path: self.path.clone(), reason });
            }
            self.look = true;
            self.follow();
        }
    }

    /// Watches the folder that a symbolic link leads to, which may change with the link.
    fn follow(&mut self) {
        let target = fs::canonicalize(&self.path).ok().and_then(|path| path.parent().map(Path::to_owned));
        let own_dir = self.path.parent().and_then(|dir| fs::canonicalize(dir).ok());
        let target = target.filter(|dir| Some(dir) != own_dir.as_ref());
        if target == self.target_dir {
            return;
        }
        if let Some(old) = self.target_dir.take() {
            // Fails where the folder is gone, and then its watch is gone too.
            let _gone = self.watcher.unwatch(&old);
        }
        if let Some(dir) = &target
            && let Err(error) = self.watcher.watch(dir, RecursiveMode::NonRecursive)
        {
            tracing::warn!("cannot watch {}: {error}; send SIGHUP after a change there", dir.display());
        }
        self.target_dir = target;
    }

    /// The content, up to a little more than what is accepted.
    fn read(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(&self.path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Whether the file may have a new content that is complete. A writer that is still at work is left
/// alone until it closes the file.
fn is_complete(event: &Event) -> bool {
    match event.kind {
        // Links come into being complete, files are written to after it.
        EventKind::Create(CreateKind::File) => event.paths.iter().any(|path| path.is_symlink()),
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(_))
        | EventKind::Create(_)
        | EventKind::Remove(_) => true,
        EventKind::Any | EventKind::Access(_) | EventKind::Modify(_) | EventKind::Other => {
            event.need_rescan()
        }
    }
}

fn not_text(bytes: &[u8], error: std::str::Utf8Error) -> Mistake {
    let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
    let line = before.split(|&byte| byte == b'\n').count();
    let message = "this is not text: write the file in UTF-8";
    Mistake { line: u32::try_from(line).ok(), ..Mistake::new("", message) }
}

fn watching(path: &Path, error: &notify::Error) -> StoreError {
    StoreError::Watch { path: path.to_owned(), reason: error.to_string() }
}
