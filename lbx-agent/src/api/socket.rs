//! The Unix socket of the API: who may connect, and what becomes of its file. Never speaks HTTP.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener as StdListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    unistd::{Group, chown},
};
use tokio::net::UnixListener;

/// Members of this group may use the API.
const GROUP: &str = "lbx";

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An agent answers there.
    #[error("another agent is listening on {}: stop it first, or choose another socket with --socket", .0.display())]
    InUse(PathBuf),
    /// The file is something else.
    #[error("{} exists and is not a socket: remove it, or choose another path with --socket", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// A listening socket. Dropping it removes its file.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

impl Socket {
    /// Where clients connect.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

/// The file of a socket; removed on drop if it is still this very socket.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| file.dev() == self.device && file.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the API socket");
        }
    }
}

/// Makes the socket at `path` and its parent directory. Owner and group `lbx` may connect; only the owner
/// where there is no such group. Must be called within a tokio runtime.
pub fn bind(path: &Path) -> Result<Socket, BindError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |error| BindError::Io { action, path, error }
    };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755).create(parent).map_err(io("create the directory", parent))?;
    }
    refuse_if_taken(path)?;

    // Bound under a name of its own and renamed when its permissions are right: nobody can connect before, and a
    // dead agent's file is replaced in one step.
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io("replace", &draft)(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = StdListener::bind(&draft).map_err(io("listen on", path))?;
    let settled = restrict(&draft)
        .and_then(|()| fs::rename(&draft, path))
        .and_then(|()| fs::symlink_metadata(path))
        .and_then(|file| listener.set_nonblocking(true).map(|()| file));
    match settled {
        Ok(file) => {
            let file = SocketFile { path: path.to_owned(), device: file.dev(), inode: file.ino() };
            let listener = UnixListener::from_std(listener).map_err(io("listen on", path))?;
            Ok(Socket { listener, file })
        }
        Err(error) => {
            // The draft may already be gone; the error to report is the first one.
            let _ = fs::remove_file(&draft);
            Err(io("set up", path)(error))
        }
    }
}

fn refuse_if_taken(path: &Path) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(BindError::Io { action: "look at", path: path.to_owned(), error }),
        Ok(file) if !file.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        // The usual leftover of a killed agent: a file that nobody listens on.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            Ok(())
        }
        Err(error) => Err(BindError::Io { action: "connect to", path: path.to_owned(), error }),
    }
}

fn restrict(socket: &Path) -> io::Result<()> {
    let mode = match Group::from_name(GROUP)? {
        Some(group) => match chown(socket, None, Some(group.gid)) {
            Ok(()) => 0o660,
            Err(Errno::EPERM) => {
                tracing::warn!(
                    "the group {GROUP} cannot use the API: the agent may give it the socket only as a member \
                     (`SupplementaryGroups={GROUP}` in its unit), or with CAP_CHOWN"
                );
                0o600
            }
            Err(error) => return Err(error.into()),
        },
        None => 0o600,
    };
    fs::set_permissions(socket, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("run/lbx/agent.sock")
    }

    #[tokio::test]
    async fn the_socket_is_made_with_its_directory_and_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let socket = bind(&path(&dir)).unwrap();
        let expected = if Group::from_name(GROUP).unwrap().is_some() { 0o660 } else { 0o600 };
        assert_eq!(fs::metadata(socket.path()).unwrap().permissions().mode() & 0o777, expected);
        let names: Vec<_> = fs::read_dir(socket.path().parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "no draft is left behind: {names:?}");
    }

    #[tokio::test]
    async fn a_second_agent_is_refused_and_the_first_keeps_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let first = bind(&path(&dir)).unwrap();
        let error = bind(&path(&dir)).unwrap_err();
        assert!(matches!(error, BindError::InUse(_)));
        assert!(error.to_string().contains("another agent is listening on"), "{error}");
        UnixStream::connect(first.path()).unwrap();
    }

    #[tokio::test]
    async fn the_socket_of_a_dead_agent_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(path(&dir).parent().unwrap()).unwrap();
        drop(StdListener::bind(path(&dir)).unwrap());
        let socket = bind(&path(&dir)).unwrap();
        UnixStream::connect(socket.path()).unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("notes.txt");
        fs::write(&file, "mine").unwrap();
        assert!(matches!(bind(&file).unwrap_err(), BindError::NotASocket(_)));
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }

    #[tokio::test]
    async fn dropping_removes_the_file_but_never_a_successors() {
        let dir = tempfile::tempdir().unwrap();
        let old = bind(&path(&dir)).unwrap();
        fs::remove_file(old.path()).unwrap();
        let new = bind(&path(&dir)).unwrap();
        drop(old);
        assert!(new.path().exists());
        drop(new);
        assert!(!path(&dir).exists());
    }
}
