//! `--config FILE`: the user's file is the whole truth. It is read and watched, never written.

use std::path::Path;

use lbx_common::api::{Config, Mistake, Revision};

use crate::config::{MAX_BYTES, load_model};

use super::{
    StoreError,
    watched::{self, WatchedFile},
};

/// The user's configuration file.
#[derive(Debug)]
pub struct ConfigFile {
    file: WatchedFile,
    revision: Revision,
    /// Content at the last load, right or wrong.
    loaded: Option<Vec<u8>>,
    /// Whether something has happened since the file was looked at.
    look: bool,
}

impl ConfigFile {
    /// Begins to watch `path`. The file is read by [`Self::load`] only.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { file: WatchedFile::open(path)?, revision: 0, loaded: None, look: true })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads and validates the file. The revision counts the different contents that were loaded.
    pub fn load(&mut self) -> Result<(Revision, Config), StoreError> {
        let path = || self.file.path().to_owned();
        let bytes = watched::read(self.file.path(), MAX_BYTES).map_err(|source| StoreError::Io {
            action: "cannot read",
            path: path(),
            source,
        })?;
        let invalid = |mistakes| StoreError::Invalid { path: path(), mistakes };
        let result = match std::str::from_utf8(&bytes) {
            Ok(text) => load_model(text).map_err(invalid),
            Err(error) => {
                let message = "this is not text: write the file in UTF-8";
                let line = watched::line_of_no_text(&bytes, error);
                Err(invalid(vec![Mistake { line, ..Mistake::new("", message) }]))
            }
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
                match watched::read(self.file.path(), MAX_BYTES) {
                    Ok(bytes) if self.loaded.as_ref() != Some(&bytes) => return Ok(()),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(
                            "cannot read {}: {error}; its last content stays in force",
                            self.file.path().display()
                        );
                    }
                }
                self.look = false;
            }
            self.file.event().await?;
            self.look = true;
        }
    }
}
