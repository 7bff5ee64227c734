//! One network namespace: made, entered, removed.
//!
//! Namespaces are named under `/run/netns`, so `ip -n NAME` and `nsenter --net=/run/netns/NAME` find them.
//! Threads and processes enter by setns(2). `ip netns exec` is never used: it remounts /sys, which hides
//! the pins in bpffs.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    os::{fd::AsRawFd, unix::process::CommandExt},
    panic,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};

use crate::cleanup::Guard;

const DIRECTORY: &str = "/run/netns";
/// First part of the names of all namespaces of the harness.
const PREFIX: &str = "lbx-";

/// A name for one set of namespaces, unique on this machine: process id and a counter, in hex.
pub fn unique_run_name() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("{:x}-{:x}", process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Name of the namespace of one box in a run.
pub fn name_of(run: &str, role: &str) -> String {
    format!("{PREFIX}{run}-{role}")
}

/// Removes namespaces whose harness ended without a chance to (SIGKILL). Those of living processes stay.
pub fn remove_stale() {
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if pid_of(&name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            delete(&name);
        }
    }
}

/// The process that made the namespace `name`; `None` where the name is not of [`name_of`].
fn pid_of(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(PREFIX)?.splitn(3, '-');
    let (pid, counter) = (parts.next()?, parts.next()?);
    let _role = parts.next()?;
    u32::from_str_radix(counter, 16).ok()?;
    u32::from_str_radix(pid, 16).ok()
}

/// A network namespace. Clones are handles of the same one; it is removed with the last of them.
#[derive(Clone)]
pub struct Netns(Arc<Inner>);

struct Inner {
    name: String,
    handle: File,
    // Dropped last: the name goes, then the kernel takes the namespace apart with all its devices.
    _removal: Guard,
}

impl Netns {
    /// Makes the namespace `name`, with `lo` up and without IPv6 addresses that nobody asked for.
    pub fn create(name: &str) -> Result<Self> {
        run_ip(&["netns", "add", name])?;
        let removal = Guard::new({
            let name = name.to_owned();
            move || delete(&name)
        });
        let path = Path::new(DIRECTORY).join(name);
        let handle = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let netns = Self(Arc::new(Inner { name: name.to_owned(), handle, _removal: removal }));
        if netns.run(|| Ok(Path::new("/proc/sys/net/ipv6").exists()))? {
            for scope in ["all", "default"] {
                // No link-local address, hence no duplicate address detection and no multicast reports.
                netns.sysctl(&format!("net/ipv6/conf/{scope}/addr_gen_mode"), "1")?;
                netns.sysctl(&format!("net/ipv6/conf/{scope}/accept_ra"), "0")?;
                netns.sysctl(&format!("net/ipv6/conf/{scope}/router_solicitations"), "0")?;
                // Nor are those reports repeated for addresses that somebody did ask for.
                netns
                    .sysctl(&format!("net/ipv6/conf/{scope}/mldv2_unsolicited_report_interval"), "3600000")?;
            }
        }
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// The name that `ip -n` takes.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The file that `nsenter --net=` takes.
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.0.name)
    }

    /// Runs `ip -n NAME ARGUMENTS` (split at blanks) and returns what it printed.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let mut all = vec!["-n", &self.0.name];
        all.extend(arguments.split_whitespace());
        run_ip(&all)
    }

    /// Sets `/proc/sys/KEY` in the namespace.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        self.run(|| {
            fs::write(&path, value)
                .with_context(|| format!("cannot set {} in {}", path.display(), self.0.name))
        })
    }

    /// Loads rules in nftables' language.
    pub fn firewall(&self, rules: &str) -> Result<()> {
        let child = self.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn();
        let mut child = child.context("cannot run `nft`: install nftables (apt-get install nftables)")?;
        child.stdin.take().context("a pipe to nft")?.write_all(rules.as_bytes())?;
        ensure!(child.wait()?.success(), "nft refused {rules}");
        Ok(())
    }

    /// Runs `work` inside, on a thread of its own, and waits for it. Sockets made there stay inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let outcome = thread::scope(|scope| scope.spawn(|| self.enter().and_then(|()| work())).join());
        outcome.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    /// Starts a thread inside. `work` runs only if the namespace could be entered.
    pub fn spawn<T, F>(&self, thread_name: &str, work: F) -> Result<JoinHandle<Result<T>>>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let handle = self.0.handle.try_clone().context("cannot duplicate the handle of a namespace")?;
        let name = self.0.name.clone();
        let thread = thread::Builder::new().name(thread_name.to_owned()).spawn(move || {
            setns(&handle, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {name}"))?;
            drop(handle);
            work()
        });
        thread.with_context(|| format!("cannot start the thread {thread_name}"))
    }

    /// A command that will run inside. It must be started while this namespace lives.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let handle = self.0.handle.as_raw_fd();
        let enter = move || {
            // SAFETY: setns(2) is a bare system call on a number; a closed descriptor only makes it fail.
            let status = unsafe { libc::setns(handle, libc::CLONE_NEWNET) };
            if status == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: between fork and exec only setns(2) is called, which is async-signal-safe.
        unsafe { command.pre_exec(enter) };
        command
    }

    fn enter(&self) -> Result<()> {
        setns(&self.0.handle, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter {}", self.0.name))
    }
}

/// Runs `ip` and returns what it printed; an error carries the command and its message.
fn run_ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.context("cannot run `ip`: install iproute2 (apt-get install iproute2)")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("`ip {}` failed: {}", arguments.join(" "), message.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn delete(name: &str) {
    // Another run may have found the same stale namespace.
    if let Err(error) = run_ip(&["netns", "del", name])
        && Path::new(DIRECTORY).join(name).exists()
    {
        eprintln!("lbx-tests: the namespace {name} stays behind: {error:#}");
    }
}
