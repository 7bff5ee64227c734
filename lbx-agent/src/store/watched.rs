//! A file of the user's that is watched: read when it changes, never written.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind},
};
use tokio::sync::mpsc;

use super::StoreError;

/// A file, and whoever tells when something happens to it.
pub struct WatchedFile {
    path: PathBuf,
    events: mpsc::Receiver<()>,
    watcher: RecommendedWatcher,
    /// Where the file really is, when it is a symbolic link.
    target_dir: Option<PathBuf>,
}

impl std::fmt::Debug for WatchedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl WatchedFile {
    /// Begins to watch `path`, which need not be there yet; its folder must.
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
        let mut file = Self { path, events, watcher, target_dir: None };
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

    /// Waits until something has happened to the file, or to another one beside it. May be dropped and called again at
    /// any time.
    pub async fn event(&mut self) -> Result<(), StoreError> {
        if self.events.recv().await.is_none() {
            let reason = "the watcher ended".to_owned();
            return Err(StoreError::Watch { path: self.path.clone(), reason });
        }
        self.follow();
        Ok(())
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
}

/// The content of a file, up to one byte more than what is accepted.
pub fn read(path: &Path, accepted: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(accepted as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Line of the first byte of a file that is no text.
pub fn line_of_no_text(bytes: &[u8], error: std::str::Utf8Error) -> Option<u32> {
    let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
    u32::try_from(before.split(|&byte| byte == b'\n').count()).ok()
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

fn watching(path: &Path, error: &notify::Error) -> StoreError {
    StoreError::Watch { path: path.to_owned(), reason: error.to_string() }
}
