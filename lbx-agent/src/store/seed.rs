//! The seed of the flow hash: a secret, the same on all nodes, so that no client can choose its slot.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use tempfile::NamedTempFile;

use super::{
    StoreError,
    embedded::{make_dir, sync_dir},
};

/// File in the state directory that holds the seed unless configured.
const DEFAULT_FILE: &str = "seed";
/// Hexadecimal digits of a seed of 128 bits.
const DIGITS: usize = 32;

/// Where the seed comes from, as `node.hash_seed` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeedSource {
    /// A file; relative to the state directory.
    File(PathBuf),
    /// The seed itself.
    Literal([u64; 2]),
}

/// Why there is no seed. Never shows any of it.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The text is neither.
    #[error(
        "this is not a seed: write `file:PATH` or {DIGITS} hexadecimal digits in quotes (`openssl rand -hex 16` \
         makes some)"
    )]
    Form,
    /// The file holds something else.
    #[error(
        "{0} does not hold a seed: it must be {DIGITS} hexadecimal digits, the same on all nodes. Copy it from \
         another node, or remove it to have a new one made (flows of the others then go elsewhere)"
    )]
    Digits(PathBuf),
    /// The operating system refused.
    #[error("cannot {action} the hash seed {path}: {source}; node.hash_seed may name another place for it")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The answer.
        source: std::io::Error,
    },
    /// The folder of the file cannot be made or written.
    #[error(transparent)]
    Folder(#[from] StoreError),
    /// The kernel gave no random bytes.
    #[error("cannot make a hash seed: {0}; set node.hash_seed to {DIGITS} hexadecimal digits")]
    Random(getrandom::Error),
}

impl FromStr for SeedSource {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("file:") {
            Some("") => Err(SeedError::Form),
            Some(path) => Ok(Self::File(path.into())),
            None => parse(text).map(Self::Literal).ok_or(SeedError::Form),
        }
    }
}

/// The seed that `hash_seed` (of `node`) names. Made, with mode 0600, where its file is missing.
pub fn load_or_make(hash_seed: Option<&str>, state_dir: &Path) -> Result<[u64; 2], SeedError> {
    match load(hash_seed, state_dir) {
        Err(SeedError::Io { path, source, .. }) if source.kind() == ErrorKind::NotFound => {
            generate(&path)?;
            // Another agent may have made one at the same time: the file that is there counts.
            load(hash_seed, state_dir)
        }
        other => other,
    }
}

/// The seed that `hash_seed` (of `node`) names; its file must be there.
pub fn load(hash_seed: Option<&str>, state_dir: &Path) -> Result<[u64; 2], SeedError> {
    let source = hash_seed.map_or_else(|| Ok(SeedSource::File(DEFAULT_FILE.into())), str::parse)?;
    let path = match source {
        SeedSource::Literal(seed) => return Ok(seed),
        SeedSource::File(path) => state_dir.join(path),
    };
    let digits =
        read(&path).map_err(|source| SeedError::Io { action: "read", path: path.clone(), source })?;
    warn_if_public(&path);
    parse(digits.trim()).ok_or(SeedError::Digits(path))
}

/// The beginning of a regular file. The name may come from a user of the API: a device or a pipe must neither
/// fill the memory nor block.
fn read(path: &Path) -> std::io::Result<String> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(2 * DIGITS as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn parse(text: &str) -> Option<[u64; 2]> {
    if text.len() != DIGITS || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let (high, low) = text.split_at_checked(DIGITS / 2)?;
    Some([u64::from_str_radix(high, 16).ok()?, u64::from_str_radix(low, 16).ok()?])
}

/// Puts a new seed at `path` in one step, so that a kill leaves all of it or nothing.
fn generate(path: &Path) -> Result<(), SeedError> {
    let failed = |source| SeedError::Io { action: "make", path: path.to_owned(), source };
    let dir = path.parent().unwrap_or(Path::new("/"));
    make_dir(dir)?;
    let mut bytes = [0; DIGITS / 2];
    getrandom::fill(&mut bytes).map_err(SeedError::Random)?;
    let digits = u128::from_be_bytes(bytes);
    // Has mode 0600 from the start.
    let mut file = NamedTempFile::new_in(dir).map_err(failed)?;
    writeln!(file, "{digits:0DIGITS$x}").map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => Err(failed(error.error)),
        _ => Ok(sync_dir(dir)?),
    }
}

fn warn_if_public(path: &Path) {
    if let Ok(metadata) = fs::metadata(path)
        && metadata.permissions().mode() & 0o077 != 0
    {
        tracing::warn!("others can read the hash seed {0}: `chmod 600 {0}`", path.display());
    }
}
