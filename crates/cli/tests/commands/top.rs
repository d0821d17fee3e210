//! `cosmos top` on a terminal of its own, and into a pipe.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use crate::place::{Place, Up, wait_until};
use serde_json::Value;

/// A pseudo-terminal with `cosmos top` on it.
struct Terminal {
    child: Child,
    keyboard: File,
    /// Open for as long as this is: what was set on it can be read when the other side has gone.
    line: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
    before: libc::termios,
}

fn size(rows: u16, columns: u16) -> libc::winsize {
    libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn settings(line: &OwnedFd) -> libc::termios {
    // SAFETY: the kernel fills what is passed and keeps nothing.
    unsafe {
        let mut found = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(line.as_raw_fd(), &raw mut found), 0);
        found
    }
}

impl Terminal {
    fn new(place: &Place, arguments: &[&str]) -> Self {
        let (mut master, mut slave) = (0, 0);
        let first = size(24, 100);
        // SAFETY: two descriptors are written, and belong to nobody else; name and settings may be null.
        let (keyboard, line) = unsafe {
            let made = libc::openpty(
                &raw mut master,
                &raw mut slave,
                std::ptr::null_mut(),
                std::ptr::null(),
                &raw const first,
            );
            assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
            (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
        };
        let before = settings(&line);
        let mut command = place.command(arguments);
        let side = || Stdio::from(line.try_clone().unwrap());
        command.stdin(side()).stdout(side()).stderr(side());
        // SAFETY: two calls into the kernel between fork and exec.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("it starts");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, sees) = (keyboard.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut piece) {
                sees.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        });
        Self {
            child,
            keyboard,
            line,
            shown,
            before,
        }
    }

    fn all(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// What was drawn last, as lines without what steers the terminal.
    fn screen(&self) -> Vec<String> {
        let all = self.all();
        let mut frames = all.rsplit("\x1b[H");
        // The last may not be whole yet.
        let (_, frame) = (frames.next(), frames.next().unwrap_or(""));
        let mut plain = String::new();
        let mut steers = false;
        for c in frame.chars() {
            match c {
                '\x1b' => steers = true,
                c if steers => steers = !c.is_ascii_alphabetic(),
                '\r' => {}
                c => plain.push(c),
            }
        }
        plain.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        wait_until(text, || {
            self.screen().iter().any(|line| line.contains(text))
        });
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    fn signal(&self, signal: i32) {
        // SAFETY: two numbers, and the child has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// It has ended well, and the terminal is as it was.
    #[track_caller]
    fn comes_back(mut self, after: &str) {
        let ended = self.child.wait().unwrap();
        assert_eq!(ended.code(), Some(0), "{after}: {ended}");
        wait_until("the terminal is given back", || {
            self.all().ends_with("\x1b[?7h\x1b[?25h\x1b[?1049l")
        });
        let (before, now) = (self.before, settings(&self.line));
        assert_eq!(
            (
                before.c_iflag,
                before.c_oflag,
                before.c_cflag,
                before.c_lflag
            ),
            (now.c_iflag, now.c_oflag, now.c_cflag, now.c_lflag),
            "{after}"
        );
    }
}

#[test]
fn it_shows_who_uses_what_sorts_by_keys_and_follows_the_size_of_the_terminal() {
    let place = Place::new();
    let (mut up, _) = Up::at(&place);
    place.ok(&[
        "run",
        "-d",
        "--name",
        "busy",
        "sh",
        "-c",
        "while :; do :; done",
    ]);
    place.ok(&["run", "-d", "--name", "quiet", "sleep", "1000"]);
    let mut terminal = Terminal::new(&place, &["top", "--every", "200ms"]);
    terminal.wait_for("2 of 2 programs run");
    let raw = settings(&terminal.line);
    assert_eq!(
        raw.c_lflag & (libc::ICANON | libc::ECHO),
        0,
        "keys come as they are pressed"
    );
    let first = |terminal: &Terminal| {
        let screen = terminal.screen();
        let head = screen.iter().position(|line| line.starts_with("NAME"));
        head.and_then(|head| screen.get(head + 1))
            .cloned()
            .unwrap_or_default()
    };
    wait_until("the busy one comes first", || {
        first(&terminal).starts_with("busy")
    });
    terminal.press(b"n");
    terminal.wait_for("by name;");
    assert!(first(&terminal).starts_with("busy"));
    terminal.press(b"n");
    terminal.wait_for("by name upside down");
    assert!(first(&terminal).starts_with("quiet"));
    let wide = |terminal: &Terminal| {
        terminal
            .screen()
            .iter()
            .map(|line| line.chars().count())
            .max()
            .unwrap_or(0)
    };
    assert!(wide(&terminal) > 50, "{:?}", terminal.screen());
    let narrow = size(6, 41);
    // SAFETY: the kernel reads the size and keeps nothing.
    let set = unsafe {
        libc::ioctl(
            terminal.line.as_raw_fd(),
            libc::TIOCSWINSZ,
            &raw const narrow,
        )
    };
    assert_eq!(set, 0);
    wait_until("it is drawn anew", || (20..=41).contains(&wide(&terminal)));
    assert!(terminal.screen().len() <= 6, "{:?}", terminal.screen());
    // A node that dies is waited for.
    up.0.kill().unwrap();
    up.0.wait().unwrap();
    terminal.wait_for("no node runs");
    let (_up, _) = Up::at(&place);
    terminal.wait_for("2 of 2 programs run");
    terminal.press(b"q");
    terminal.comes_back("q");
}

#[test]
fn the_terminal_is_given_back_on_every_end() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    type End = fn(&mut Terminal);
    let ends: [(&str, End); 4] = [
        ("Ctrl-C", |terminal| terminal.press(b"\x03")),
        ("SIGTERM", |terminal| terminal.signal(libc::SIGTERM)),
        ("SIGINT", |terminal| terminal.signal(libc::SIGINT)),
        ("SIGHUP", |terminal| terminal.signal(libc::SIGHUP)),
    ];
    for (name, end) in ends {
        let mut terminal = Terminal::new(&place, &["top"]);
        terminal.wait_for("0 of 0 programs run");
        end(&mut terminal);
        terminal.comes_back(name);
    }
    // What cannot be begun leaves the terminal alone.
    let nowhere = Terminal::new(&place, &["top", "--data", "nowhere"]);
    let mut nowhere = nowhere;
    assert_eq!(nowhere.child.wait().unwrap().code(), Some(2));
    wait_until("it says why", || nowhere.all().contains("no node runs on"));
    assert!(!nowhere.all().contains("\x1b[?1049h"));
}

#[test]
fn into_a_pipe_it_says_once_what_is_used() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    place.ok(&[
        "run",
        "-d",
        "--name",
        "busy",
        "sh",
        "-c",
        "while :; do :; done",
    ]);
    let said = place.ok(&["top", "--once", "--json", "--every", "1s"]);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    let busy = &said["programs"][0];
    assert_eq!(
        (&busy["name"], &busy["state"]),
        (&"busy".into(), &"running".into())
    );
    for key in [
        "cores",
        "heat_watts",
        "memory_bytes",
        "uptime_s",
        "processes",
    ] {
        assert!(busy[key].as_f64() > Some(0.0), "{key}: {busy}");
    }
    assert_eq!(busy["restarts"], 0);
    assert!(said["node"]["memory"]["total_bytes"].as_u64() > Some(1 << 20));
    let table = place.ok(&["top", "--every", "100ms", "--sort", "memory"]);
    assert!(
        table.contains("NAME") && table.contains("busy") && !table.contains('\x1b'),
        "{table}"
    );
    let wrong = place.cosmos(&["top", "--every", "1ms"], "");
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong.err.contains("expected a time from 100ms"),
        "{}",
        wrong.err
    );
}
