//! A fake agent on a Unix socket, and the binary run against it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, Method, StatusCode, Uri},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixListener;

/// One request that the fake agent got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `METHOD PATH?QUERY`
    pub line: String,
    /// Content-Type
    pub content_type: String,
    /// If-Match
    pub if_match: Option<String>,
    /// The body as it came.
    pub body: String,
}

/// What the fake agent answers: status and body, given the request line.
pub type Answers = fn(&str) -> (u16, String);

/// An agent that answers the same to the same request and writes everything down.
pub struct FakeAgent {
    pub socket: PathBuf,
    requests: Arc<Mutex<Vec<Request>>>,
    dir: TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl FakeAgent {
    pub fn start(answers: Answers) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = {
            let _in_runtime = runtime.enter();
            UnixListener::bind(&socket).unwrap()
        };
        let seen = Arc::clone(&requests);
        let handle = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let request = Request {
                line: format!("{method} {uri}"),
                content_type: header("content-type").unwrap_or_default(),
                if_match: header("if-match"),
                body: String::from_utf8(body.to_vec()).unwrap(),
            };
            let (status, text) = answers(&request.line);
            seen.lock().unwrap().push(request);
            async move { (StatusCode::from_u16(status).unwrap(), text) }
        };
        runtime.spawn(axum::serve(listener, Router::new().fallback(handle)).into_future());
        Self { socket, requests, dir, _runtime: runtime }
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// A directory that lives as long as the agent.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs `lbx-ctl` with these arguments against this agent.
    pub fn run(&self, args: &[&str]) -> Outcome {
        run(&self.socket, args)
    }

    /// As [`Self::run`], with something on standard input.
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Outcome {
        let mut child = spawn(&self.socket, args);
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Outcome::of(child.wait_with_output().unwrap())
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("lbx-ctl exits by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Checks exit code and that there is one message with these words.
    #[track_caller]
    pub fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert_eq!(self.stderr.matches("error:").count(), 1, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is missing: {self:?}");
        }
    }

    /// Checks success and returns what was printed.
    #[track_caller]
    pub fn printed(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        &self.stdout
    }
}

/// The binary, ready to be run against a socket.
pub fn command(program: &Path, socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).env("LBX_SOCKET", socket);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn spawn(socket: &Path, args: &[&str]) -> Child {
    command(Path::new(env!("CARGO_BIN_EXE_lbx-ctl")), socket, args).spawn().unwrap()
}

pub fn run(socket: &Path, args: &[&str]) -> Outcome {
    Outcome::of(spawn(socket, args).wait_with_output().unwrap())
}

/// A problem document.
pub fn problem(kind: &str, status: u16, detail: &str, mistakes: &Value) -> (u16, String) {
    let body = json!({"type": kind, "title": "", "status": status, "detail": detail, "mistakes": mistakes});
    (status, body.to_string())
}

/// A report of a write.
pub fn report(changes: &Value) -> (u16, String) {
    (200, json!({"revision": 8, "dry_run": false, "changes": changes}).to_string())
}
