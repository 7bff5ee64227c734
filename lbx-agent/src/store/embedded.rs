//! The database of the agent: a `redb` file that one agent at a time has open.

use std::{
    fs::{DirBuilder, File},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use lbx_common::api::{Config, ConfigDocument, Revision};
use redb::{Database, DatabaseError, Durability, ReadableDatabase, StorageError, TableDefinition};
use tempfile::NamedTempFile;

use super::StoreError;

/// Name of the database in the agent's state directory.
const FILE: &str = "lbx.redb";
/// Documents by name, as JSON: it can be read by later versions and by people.
const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");
/// The [`ConfigDocument`].
const CONFIG: &str = "config";
/// A configuration of 65,535 endpoints takes some 10 MB; redb's default is 1 GiB.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// An open database.
#[derive(Debug)]
pub struct Embedded {
    path: PathBuf,
    database: Database,
}

impl Embedded {
    /// Opens the database in `state_dir`, making both where they are missing.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        make_dir(state_dir)?;
        let path = state_dir.join(FILE);
        if !path.try_exists().map_err(io("cannot open", &path))? {
            create(state_dir, &path)?;
        }
        let database = builder().open(&path).map_err(|error| opening(&path, error))?;
        Ok(Self { path, database })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was saved last.
    pub fn load(&self) -> Result<Option<(Revision, Config)>, StoreError> {
        let damaged = |reason: String| StoreError::Damaged { path: self.path.clone(), reason };
        let Some(bytes) = self.read().map_err(|error| damaged(error.to_string()))? else { return Ok(None) };
        let document: ConfigDocument = serde_json::from_slice(&bytes).map_err(|error| {
            damaged(format!("its configuration is not one that this version reads ({error})"))
        })?;
        Ok(Some((document.revision, document.config)))
    }

    fn read(&self) -> Result<Option<Vec<u8>>, redb::Error> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(DOCUMENTS)?;
        Ok(table.get(CONFIG)?.map(|value| value.value().to_vec()))
    }

    /// Replaces what was saved. Survives a crash of the machine from the moment this returns.
    pub fn save(&self, revision: Revision, config: &Config) -> Result<(), StoreError> {
        let failed = |reason: String| StoreError::NotWritten { path: self.path.clone(), reason };
        let document = ConfigDocument { revision, config: config.clone() };
        let bytes = serde_json::to_vec(&document).map_err(|error| failed(error.to_string()))?;
        self.write(&bytes).map_err(|error| failed(error.to_string()))
    }

    fn write(&self, bytes: &[u8]) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.open_table(DOCUMENTS)?.insert(CONFIG, bytes)?;
        transaction.commit()?;
        Ok(())
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    // Without the check a file that something else wrote to makes redb panic.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Makes the directory, readable by its owner only, where it is missing.
pub(super) fn make_dir(dir: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io("cannot make", dir))
}

/// Makes an empty database under another name and renames it: redb refuses a file whose creation was
/// cut short, so a kill at the wrong moment would leave one that never opens.
fn create(dir: &Path, path: &Path) -> Result<(), StoreError> {
    let file = NamedTempFile::new_in(dir).map_err(io("cannot make a file in", dir))?;
    let database = builder().create(file.path()).map_err(|error| opening(path, error))?;
    let embedded = Embedded { path: path.to_owned(), database };
    let failed =
        |error: redb::Error| StoreError::NotWritten { path: path.to_owned(), reason: error.to_string() };
    let make_table = || {
        let transaction = embedded.database.begin_write()?;
        transaction.open_table(DOCUMENTS)?;
        transaction.commit()?;
        Ok(())
    };
    make_table().map_err(failed)?;
    drop(embedded);
    match file.persist_noclobber(path) {
        Ok(file) => file.sync_all().map_err(io("cannot write", path))?,
        // Another agent was faster; opening the file tells whether it still runs.
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io("cannot make", path)(error.error)),
    }
    sync_dir(dir)
}

/// Makes the names in `dir` survive a crash of the machine.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("cannot write", dir))
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    move |source| StoreError::Io { action, path: path.to_owned(), source }
}

fn opening(path: &Path, error: DatabaseError) -> StoreError {
    let path = path.to_owned();
    if let DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch = error {
        return StoreError::InUse(path);
    }
    let reason = error.to_string();
    if let DatabaseError::Storage(StorageError::Io(source)) = error
        && !is_damage(&source)
    {
        return StoreError::Io { action: "cannot open", path, source };
    }
    StoreError::Damaged { path, reason }
}

/// redb reports a file that is none of its own, or that was cut off, as an error of input.
fn is_damage(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
}
