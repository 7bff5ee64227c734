//! Reads the file of regions when it changes, and puts its list into the kernel beside the one in use. Takes its time
//! in a task of its own: a million prefixes are a million system calls. Which list counts is not decided here.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use lbx_common::api::Mistake;
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

use super::{MAX_BYTES, RegionList};
use crate::{
    dataplane::{PrefixesError, RegionMaps},
    store::watched::{self, WatchedFile},
};

/// A list that is complete in the kernel.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub list: Arc<RegionList>,
    /// The file.
    pub path: PathBuf,
    /// When it was read.
    pub read_at: SystemTime,
}

/// Why a file does not count.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadFailed {
    /// It has mistakes.
    #[error("{}", lines(.0, .1))]
    Invalid(PathBuf, Vec<Mistake>),
    /// It cannot be read, or its list not be kept.
    #[error("{0}")]
    Other(String),
}

fn lines(path: &Path, mistakes: &[Mistake]) -> String {
    let file = path.display().to_string();
    mistakes.iter().map(|mistake| mistake.in_file(&file)).collect::<Vec<_>>().join("; ")
}

/// What is asked of the task.
enum Request {
    /// Read this file, or none, and watch it from now on.
    Load(Option<PathBuf>, oneshot::Sender<Result<Option<Loaded>, LoadFailed>>),
    /// Read the file again.
    Again,
    /// Keep these lists alone, and the last one that was read.
    Keep([u32; 2]),
}

/// A handle of the task.
#[derive(Debug, Clone)]
pub struct Regions(mpsc::Sender<Request>);

impl Regions {
    /// Reads a file, or none, and has it watched from now on.
    pub async fn load(&self, path: Option<PathBuf>) -> Result<Option<Loaded>, LoadFailed> {
        let (sender, answer) = oneshot::channel();
        let stopping = || LoadFailed::Other("the agent is stopping".to_owned());
        self.0.send(Request::Load(path, sender)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    /// Has the file read again.
    pub fn read_again(&self) {
        // Where there is no room, it is about to be read.
        let _full = self.0.try_send(Request::Again);
    }

    /// Has lists removed that are neither of these.
    pub async fn keep(&self, lists: [u32; 2]) {
        // Fails where the task has ended, and then nothing is to be done any more.
        let _ended = self.0.send(Request::Keep(lists)).await;
    }
}

/// Reads a file, without keeping its list.
pub fn read(path: &Path) -> Result<RegionList, LoadFailed> {
    let bytes = watched::read(path, MAX_BYTES)
        .map_err(|error| LoadFailed::Other(format!("cannot read {}: {error}", path.display())))?;
    RegionList::parse(&bytes).map_err(|mistakes| LoadFailed::Invalid(path.to_owned(), mistakes))
}

/// The task.
pub struct Reader {
    maps: Option<RegionMaps>,
    file: Option<WatchedFile>,
    path: Option<PathBuf>,
    /// That of the file when it was read last: something happens to others beside it, too.
    stamp: Option<Stamp>,
    /// Id of the list that was read last.
    last: u32,
    requests: mpsc::Receiver<Request>,
    results: mpsc::UnboundedSender<Result<Loaded, LoadFailed>>,
}

impl Reader {
    /// Begins to work. What is read because the file has changed goes to `results`.
    pub fn spawn(
        maps: Option<RegionMaps>,
        token: CancellationToken,
        results: mpsc::UnboundedSender<Result<Loaded, LoadFailed>>,
    ) -> (Regions, JoinHandle<()>) {
        let (sender, requests) = mpsc::channel(16);
        let reader = Self { maps, file: None, path: None, stamp: None, last: 0, requests, results };
        (Regions(sender), tokio::spawn(reader.run(token)))
    }

    async fn run(mut self, token: CancellationToken) {
        loop {
            let request = tokio::select! {
                () = token.cancelled() => return,
                request = self.requests.recv() => match request {
                    Some(request) => request,
                    None => return,
                },
                result = event(self.file.as_mut()) => {
                    if let Err(error) = result {
                        tracing::error!(%error, "changes of the file of regions are no longer seen");
                        self.file = None;
                    }
                    if stamp(self.path.as_deref()) == self.stamp {
                        continue;
                    }
                    Request::Again
                }
            };
            match request {
                Request::Load(path, answer) => {
                    let loaded = self.load(path).await;
                    drop(answer.send(loaded));
                }
                Request::Again => {
                    let Some(path) = self.path.clone() else { continue };
                    let result = self.fill(path).await;
                    if self.results.send(result).is_err() {
                        return;
                    }
                }
                Request::Keep(lists) => self.keep([lists[0], lists[1], self.last]).await,
            }
        }
    }

    async fn load(&mut self, path: Option<PathBuf>) -> Result<Option<Loaded>, LoadFailed> {
        if self.path != path {
            self.file = None;
        }
        self.path.clone_from(&path);
        let Some(path) = path else { return Ok(None) };
        if self.file.is_none() {
            self.file = match WatchedFile::open(&path) {
                Ok(file) => Some(file),
                Err(error) => return Err(LoadFailed::Other(error.to_string())),
            };
        }
        self.fill(path).await.map(Some)
    }

    /// Reads a file, and writes its list where it is not there yet.
    async fn fill(&mut self, path: PathBuf) -> Result<Loaded, LoadFailed> {
        let last = self.last;
        self.stamp = stamp(Some(&path));
        let filled = self
            .with_maps(move |maps| {
                let regions = read(&path)?;
                if regions.id() != last {
                    let failed = |error: PrefixesError| LoadFailed::Other(error.to_string());
                    maps.fill(regions.id(), regions.entries()).map_err(failed)?;
                }
                Ok(Loaded { list: Arc::new(regions), path, read_at: SystemTime::now() })
            })
            .await;
        let loaded = filled.unwrap_or_else(|| Err(LoadFailed::Other("it was not read".to_owned())))?;
        self.last = loaded.list.id();
        Ok(loaded)
    }

    async fn keep(&mut self, lists: [u32; 3]) {
        let removed = self.with_maps(move |maps| maps.keep_only(&lists)).await;
        match removed {
            Some(Ok(0)) | None => {}
            Some(Ok(prefixes)) => tracing::debug!(prefixes, "prefixes of regions before removed"),
            Some(Err(error)) => tracing::error!(%error, "cannot remove prefixes of regions before"),
        }
    }

    /// Works on the maps where waiting harms nobody.
    async fn with_maps<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut RegionMaps) -> T + Send + 'static,
    ) -> Option<T> {
        let mut maps = self.maps.take()?;
        let done = spawn_blocking(move || {
            let result = work(&mut maps);
            (maps, result)
        });
        let (maps, result) = done.await.ok()?;
        self.maps = Some(maps);
        Some(result)
    }
}

/// When a file was written, its length, and which file it is.
type Stamp = (SystemTime, u64, u64);

fn stamp(path: Option<&Path>) -> Option<Stamp> {
    let metadata = std::fs::metadata(path?).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// Waits until something happens to a file; to none, nothing does.
async fn event(file: Option<&mut WatchedFile>) -> Result<(), crate::store::StoreError> {
    match file {
        Some(file) => file.event().await,
        None => std::future::pending().await,
    }
}
