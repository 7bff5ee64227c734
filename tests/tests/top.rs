//! `lbx-ctl top` on a terminal, beside a real agent and traffic.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use lbx_tests::{
    agent::{Agent, binary, start_healthy},
    config,
    topology::EAST,
    wait,
};
use nix::{
    pty::{Winsize, openpty},
    unistd::setsid,
};

const PATIENCE: Duration = Duration::from_secs(30);
const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// `lbx-ctl top` on a terminal of its own.
struct Top {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Top {
    fn start(agent: &Agent) -> Self {
        let pty = openpty(&SIZE, None).unwrap();
        let terminal = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
        let mut command = Command::new(binary("lbx-ctl").unwrap());
        command.arg("--socket").arg(agent.socket()).args(["top", "-i", "200ms"]);
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        command.stdin(terminal(&pty.slave)).stdout(terminal(&pty.slave)).stderr(terminal(&pty.slave));
        // SAFETY: setsid(2) and ioctl(2) are async-signal-safe and touch no memory of this process.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                // The terminal of a session is the first that it opens, or asks for.
                if libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(SIZE.ws_row, SIZE.ws_col, 0)));
        let mut master = File::from(pty.master);
        let keyboard = master.try_clone().unwrap();
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Ends with an error when nobody has the terminal open any more.
            while let Ok(count @ 1..) = master.read(&mut bytes) {
                shown.lock().unwrap().process(bytes.get(..count).unwrap());
            }
        });
        Self { child, keyboard, screen }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn lines(&self) -> Vec<String> {
        self.screen.lock().unwrap().screen().contents().lines().map(str::to_owned).collect()
    }

    /// Waits until a line of the screen is as wanted, and returns it.
    fn line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        wait::until(what, PATIENCE, || Ok(self.lines().into_iter().find(|line| wanted(line))))
            .unwrap_or_else(|error| panic!("{error}: {:#?}", self.lines()))
    }

    /// Whether the screen is another one than the shell's.
    fn is_drawing(&self) -> bool {
        self.screen.lock().unwrap().screen().alternate_screen()
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        // Fails only where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn top_shows_traffic_an_endpoint_that_fails_and_an_agent_that_goes_and_comes() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    let mut top = Top::start(&agent);
    top.line("the services are there", |line| line.starts_with("east "));
    assert!(top.is_drawing());
    let client = topology.client();
    let done = Mutex::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !*done.lock().unwrap() {
                client.http_get(EAST.vip, 0).unwrap();
            }
        });
        // Packets and connection attempts a second.
        let busy = |line: &str| {
            let cells: Vec<_> = line.split_whitespace().collect();
            let busy = |place: usize| cells.get(place).is_some_and(|cell| !["0", "-"].contains(cell));
            line.starts_with("east ") && busy(1) && busy(5)
        };
        let shown = top.lines();
        let line =
            wait::until("traffic is seen", PATIENCE, || Ok(top.lines().into_iter().find(|line| busy(line))));
        *done.lock().unwrap() = true;
        line.unwrap_or_else(|error| panic!("{error}: {shown:#?}"));
    });

    top.press("\t");
    top.line("the endpoints are there", |line| line.starts_with("east-web/a") && line.contains(" healthy"));
    topology.east.origin("a").unwrap().stop_servers();
    top.line("it is down, and why", |line| line.starts_with("east-web/a") && line.contains("unhealthy"));
    top.press("/web/b\r");
    wait::until("only the other ones are left", PATIENCE, || {
        let lines = top.lines();
        let names = lines.iter().filter(|line| line.contains("-web/"));
        Ok((names.clone().count() == 2 && !names.clone().any(|line| line.contains("web/a"))).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {:#?}", top.lines()));

    agent.kill().unwrap();
    top.line("the agent is gone", |line| line.starts_with("agent unreachable for"));
    agent.start().unwrap();
    top.line("the agent is back", |line| line.starts_with("up "));
    top.press("q");
    wait::until("it ends", PATIENCE, || Ok(top.child.try_wait()?)).unwrap();
    wait::until("the terminal is as before", PATIENCE, || Ok((!top.is_drawing()).then_some(()))).unwrap();
}

#[test]
fn control_c_ends_it_and_without_a_terminal_it_says_what_to_do() {
    let (_topology, agent) = start_healthy(&config::whole()).unwrap();
    let mut top = Top::start(&agent);
    top.line("the services are there", |line| line.starts_with("east "));
    top.press("\x03");
    let status = wait::until("it ends", PATIENCE, || Ok(top.child.try_wait()?)).unwrap();
    assert!(status.success(), "{status}");
    wait::until("the terminal is as before", PATIENCE, || Ok((!top.is_drawing()).then_some(()))).unwrap();

    let piped = agent.ctl(&["top"]).unwrap();
    assert!(piped.code == Some(2) && piped.stderr.contains("lbx-ctl top --once"), "{piped:?}");
    let once = agent.ctl(&["top", "--once", "-i", "100ms", "--view", "endpoints"]).unwrap();
    assert_eq!(once.code, Some(0), "{once:?}");
    let endpoint = once.stdout.lines().find(|line| line.starts_with("east-web/a")).unwrap();
    assert!(endpoint.contains("healthy"), "{}", once.stdout);
}
