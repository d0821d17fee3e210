//! `cosmos top`: the node and its programs as they are, once or for as long as somebody looks.
//!
//! Two looks at sums that grow make a rate, so nothing is shown before the second. One thread asks the node, so that keys
//! are heard while it does not answer; the other draws, and waits for the first of keys, signals and looks.
//!
//! The terminal is another screen in raw mode while this runs ([`Screen`]) and what it was before on every end but
//! `SIGKILL`: by a key, a signal, a panic, or when nobody reads any more.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as Order};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Result;
use daemon::control::{Answer, Listed, Request};
use daemon::load::Load;
use daemon::sensors::{Source, Use};
use daemon::supervision::Phase;
use rustix::event::{PollFd, PollFlags};
use rustix::termios::{OptionalActions, Termios};
use serde::Serialize;
use serde_json::json;
use wire::Nanos;

use super::arguments::{Sort, Top};
use super::node::{on_one_line, print, print_json, put, state};

/// What a program used between two looks.
#[derive(Clone, Debug, Serialize)]
struct Row {
    name: String,
    state: String,
    /// Processor, in cores.
    cores: f64,
    memory_bytes: u64,
    /// What of the machine's heat is its, in watts by the model.
    heat_watts: f64,
    processes: u32,
    restarts: u64,
    /// For how long it has run since it was started last, in seconds.
    uptime_s: Option<f64>,
    program: String,
}

/// What there is to show.
#[derive(Clone, Debug)]
struct View {
    now: Load,
    rows: Vec<Row>,
    /// The node itself without its programs, in cores and bytes.
    node_cores: f64,
    node_memory_bytes: u64,
}

impl View {
    fn between(before: &Load, now: Load) -> Self {
        let since = (now.status.seconds - before.status.seconds).max(1e-3);
        let cores = |before: Option<&Use>, now: &Use| {
            // Who has been started again, or for the first time, begins at nothing.
            let before = before.map_or(0.0, |used| used.processor_seconds);
            let spent = now.processor_seconds - before;
            let spent = if spent < 0.0 {
                now.processor_seconds
            } else {
                spent
            };
            spent / since
        };
        let key = |listed: &Listed| (listed.name.clone(), listed.starts);
        let used = before.programs.iter();
        let used = used.filter_map(|(listed, used)| Some((key(listed), used.as_ref()?)));
        let used: BTreeMap<_, _> = used.collect();
        let unix_ms = daemon::news::unix_ms();
        let rows = now.programs.iter().map(|(listed, own)| {
            let own = own.unwrap_or_default();
            let busy = cores(used.get(&key(listed)).copied(), &own);
            let words = std::iter::once(&listed.program).chain(&listed.arguments);
            let words: Vec<_> = words.map(|word| on_one_line(word)).collect();
            let uptime = listed.since_unix_ms;
            Row {
                name: listed.name.clone(),
                state: state(listed),
                cores: busy,
                memory_bytes: own.memory_bytes,
                heat_watts: busy * now.watts_per_core,
                processes: own.processes,
                restarts: listed.starts.saturating_sub(1),
                uptime_s: uptime.map(|since| unix_ms.saturating_sub(since) as f64 / 1000.0),
                program: words.join(" "),
            }
        });
        let rows: Vec<_> = rows.collect();
        let of_programs: f64 = rows.iter().map(|row| row.cores).sum();
        let memory: u64 = rows.iter().map(|row| row.memory_bytes).sum();
        Self {
            node_cores: (cores(Some(&before.node), &now.node) - of_programs).max(0.0),
            node_memory_bytes: now.node.memory_bytes.saturating_sub(memory),
            rows,
            now,
        }
    }

    fn sort(&mut self, by: Sort, upside_down: bool) {
        let falling = |a: f64, b: f64| b.total_cmp(&a);
        self.rows.sort_by(|a, b| {
            let order = match by {
                Sort::Cpu => falling(a.cores, b.cores),
                Sort::Memory => b.memory_bytes.cmp(&a.memory_bytes),
                Sort::Heat => falling(a.heat_watts, b.heat_watts),
                Sort::Restarts => b.restarts.cmp(&a.restarts),
                Sort::State => a.state.cmp(&b.state),
                Sort::Uptime => falling(a.uptime_s.unwrap_or(-1.0), b.uptime_s.unwrap_or(-1.0)),
                Sort::Name => a.name.cmp(&b.name),
            };
            let order = if upside_down { order.reverse() } else { order };
            order.then_with(|| a.name.cmp(&b.name))
        });
    }

    fn head(&self) -> [String; 3] {
        let status = &self.now.status;
        let (programs, memory) = (&self.now.programs, self.now.memory);
        let up = Nanos::from_secs(status.seconds as u64);
        let running = programs.iter();
        let running = running.filter(|(listed, _)| listed.phase == Phase::Running);
        let (used, total) = (bytes(memory.used_bytes), bytes(memory.total_bytes));
        let heat = match status.heat {
            None => "not known yet".to_owned(),
            Some(heat) => format!(
                "{:.1} °C of {:.0} °C ({}), programs get {:.0} % of the processor",
                heat.temperature.celsius,
                heat.temperature.limit_celsius,
                match heat.temperature.source {
                    Source::Measured => "measured",
                    Source::Modelled => "modelled",
                },
                heat.clock * 100.0
            ),
        };
        let busy = status.heat.map_or(0.0, |heat| heat.busy * 100.0);
        [
            format!(
                "{}, up {up}: {} of {} programs run; the node itself {:.1} % of a core, {}",
                status.fleet.name,
                running.count(),
                programs.len(),
                self.node_cores * 100.0,
                bytes(self.node_memory_bytes)
            ),
            format!(
                "machine  {busy:.0} % of {} cores, memory {used} of {total}",
                status.cores
            ),
            format!("heat     {heat}"),
        ]
    }

    /// The table, its first line what the columns are.
    fn table(&self) -> Vec<String> {
        let width = self.rows.iter().map(|row| row.name.chars().count());
        let width = width.max().unwrap_or(0).clamp(4, 32);
        let mut lines = vec![format!(
            "{:<width$}  {:<12} {:>6} {:>9} {:>7} {:>8} {:>9}  PROGRAM",
            "NAME", "STATE", "CPU %", "MEMORY", "HEAT W", "RESTARTS", "UPTIME"
        )];
        lines.extend(self.rows.iter().map(|row| {
            let uptime = row
                .uptime_s
                .map_or("-".to_owned(), |seconds| short(seconds as u64));
            format!(
                "{:<width$}  {:<12} {:>6.1} {:>9} {:>7.1} {:>8} {:>9}  {}",
                row.name,
                row.state,
                row.cores * 100.0,
                bytes(row.memory_bytes),
                row.heat_watts,
                row.restarts,
                uptime,
                row.program
            )
        }));
        lines
    }

    fn json(&self) -> serde_json::Value {
        let status = &self.now.status;
        json!({
            "node": {
                "name": status.fleet.name,
                "uptime_s": status.seconds,
                "cores": status.cores,
                "node_cores": self.node_cores,
                "node_memory_bytes": self.node_memory_bytes,
                "memory": self.now.memory,
                "heat": status.heat,
            },
            "programs": self.rows,
        })
    }
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut scaled, mut unit) = (count as f64, 0);
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        (scaled, unit) = (scaled / 1024.0, unit + 1);
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{scaled:.1} {}", UNITS[unit]),
    }
}

/// A time in as few letters as a column has.
fn short(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3599 => format!("{minutes}m{:02}s", seconds % 60),
        3600..=86_399 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{}d{:02}h", hours / 24, hours % 24),
    }
}

pub(super) fn top(asked: &Top) -> Result<ExitCode> {
    let data = asked.ask.data.directory()?;
    let terminal = rustix::termios::isatty(io::stdout()) && rustix::termios::isatty(io::stdin());
    if !asked.once && !asked.ask.json && terminal {
        return live(asked, &data);
    }
    let before = look(&data)?;
    pause(asked.every);
    let mut view = View::between(&before, look(&data)?);
    view.sort(asked.sort, false);
    if asked.ask.json {
        return print_json(&view.json());
    }
    let lines: Vec<_> = view.head().into_iter().chain(view.table()).collect();
    print(&(lines.join("\n") + "\n"))
}

fn look(data: &Path) -> Result<Load> {
    match put(data, &Request::Load)? {
        Answer::Load(load) => Ok(*load),
        other => anyhow::bail!("the node answered something else than was asked: {other:?}"),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a rate is what is used between two looks by the host's clock"
)]
fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// What ends it, and what makes it draw again.
struct Heard {
    ended: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
    /// Has something to read when a signal came.
    woken: UnixStream,
}

impl Heard {
    fn new() -> io::Result<Self> {
        use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
        let (woken, wakes) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let (ended, stopped) = (Arc::default(), Arc::default());
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            signal_hook::flag::register(signal, Arc::clone(&ended))?;
        }
        signal_hook::flag::register(SIGTSTP, Arc::clone(&stopped))?;
        // After the flags: whoever is woken finds them set.
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH] {
            signal_hook::low_level::pipe::register(signal, wakes.try_clone()?)?;
        }
        Ok(Self {
            ended,
            stopped,
            woken,
        })
    }
}

/// The terminal while it is ours.
struct Screen {
    before: Termios,
}

const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

impl Screen {
    fn enter() -> io::Result<Self> {
        let before = rustix::termios::tcgetattr(io::stdin())?;
        let screen = Self { before };
        screen.take()?;
        Ok(screen)
    }

    fn take(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        write(ENTER)
    }

    fn give_back(&self) {
        // Whoever has hung up sees neither.
        let _ = write(LEAVE);
        let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }

    fn size() -> (usize, usize) {
        match rustix::termios::tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (size.ws_col.into(), size.ws_row.into())
            }
            _ => (80, 24),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

type Looked = Result<Load, String>;

/// Asks for as long as somebody listens; a byte in `wakes` says that there is an answer.
fn ask(
    data: &Path,
    every: Duration,
    to: &SyncSender<Looked>,
    ends: &Receiver<()>,
    wakes: &UnixStream,
) {
    loop {
        let looked = look(data).map_err(|error| format!("{error:#}"));
        if to.send(looked).is_err() {
            return;
        }
        let mut wakes = wakes;
        let _ = wakes.write(&[0]);
        match ends.recv_timeout(every) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return,
        }
    }
}

/// What is on the screen, and how it is to be looked at.
struct Shown {
    sort: Sort,
    upside_down: bool,
    /// The first row.
    from: usize,
    before: Option<Load>,
    view: Option<View>,
    /// Why there is nothing new.
    failed: Option<String>,
}

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Quit,
    Stop,
    Sort(Sort),
    Up(usize),
    Down(usize),
    Nothing,
}

/// The first key of what was typed, and the rest.
fn key(typed: &[u8]) -> (Key, &[u8]) {
    const PAGE: usize = 10;
    for (sequence, key) in [
        (&b"\x1b[A"[..], Key::Up(1)),
        (b"\x1b[B", Key::Down(1)),
        (b"\x1b[5~", Key::Up(PAGE)),
        (b"\x1b[6~", Key::Down(PAGE)),
    ] {
        if let Some(rest) = typed.strip_prefix(sequence) {
            return (key, rest);
        }
    }
    let key = match typed[0] {
        b'q' | 3 => Key::Quit,
        26 => Key::Stop,
        b'c' => Key::Sort(Sort::Cpu),
        b'm' => Key::Sort(Sort::Memory),
        b'h' => Key::Sort(Sort::Heat),
        b'r' => Key::Sort(Sort::Restarts),
        b's' => Key::Sort(Sort::State),
        b'u' => Key::Sort(Sort::Uptime),
        b'n' => Key::Sort(Sort::Name),
        b'k' => Key::Up(1),
        b'j' => Key::Down(1),
        _ => Key::Nothing,
    };
    (key, &typed[1..])
}

impl Shown {
    fn learn(&mut self, looked: Looked) {
        match looked {
            Ok(load) => {
                self.failed = None;
                if let Some(before) = self.before.replace(load.clone()) {
                    self.view = Some(View::between(&before, load));
                }
            }
            Err(because) => {
                // A node that starts anew counts from nothing.
                (self.before, self.failed) = (None, Some(because));
            }
        }
    }

    fn press(&mut self, key: Key) {
        match key {
            Key::Sort(sort) if sort == self.sort => self.upside_down = !self.upside_down,
            Key::Sort(sort) => (self.sort, self.upside_down) = (sort, false),
            Key::Up(rows) => self.from = self.from.saturating_sub(rows),
            Key::Down(rows) => self.from += rows,
            Key::Quit | Key::Stop | Key::Nothing => {}
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        let (columns, rows) = Screen::size();
        let mut lines = Vec::new();
        match (&mut self.view, &self.failed) {
            (_, Some(failed)) => lines.extend([format!("error: {failed}"), "trying again".into()]),
            (None, None) => lines.push("looking at the node ...".into()),
            (Some(view), None) => {
                view.sort(self.sort, self.upside_down);
                lines.extend(view.head());
                let mut table = view.table();
                let room = rows.saturating_sub(lines.len() + 2).max(1);
                self.from = self.from.min(view.rows.len().saturating_sub(room));
                lines.push(format!("\x1b[7m{:<columns$}\x1b[0m", table.remove(0)));
                lines.extend(table.into_iter().skip(self.from).take(room));
            }
        }
        lines.truncate(rows.saturating_sub(1));
        let way = if self.upside_down { " upside down" } else { "" };
        let mut frame = String::from("\x1b[H");
        for line in &lines {
            let _ = write!(frame, "{}\x1b[K\r\n", cut(line, columns));
        }
        let _ = write!(frame, "\x1b[J\x1b[{rows};1H");
        let foot = format!(
            "by {}{way}; keys: c cpu, m memory, h heat, r restarts, s state, u uptime, n name, arrows, q ends",
            self.sort.word()
        );
        frame += &cut(&foot, columns);
        frame += "\x1b[K";
        write(&frame)
    }
}

/// What fits in a line; colours take no room.
fn cut(line: &str, columns: usize) -> String {
    let (mut fits, mut room, mut colour) = (String::new(), columns, false);
    for c in line.chars() {
        colour |= c == '\x1b';
        if colour {
            fits.push(c);
            colour = c != 'm';
        } else if room > 0 {
            fits.push(c);
            room -= 1;
        }
    }
    fits
}

fn live(asked: &Top, data: &Path) -> Result<ExitCode> {
    // What is wrong at the beginning is said as any command does.
    let first = look(data)?;
    let heard = Heard::new()?;
    let (wakes, woken) = UnixStream::pair()?;
    woken.set_nonblocking(true)?;
    let (to, looked) = sync_channel(1);
    let (_ends, ended) = sync_channel::<()>(0);
    let (path, every) = (data.to_owned(), asked.every);
    std::thread::spawn(move || ask(&path, every, &to, &ended, &wakes));
    let mut shown = Shown {
        sort: asked.sort,
        upside_down: false,
        from: 0,
        before: Some(first),
        view: None,
        failed: None,
    };
    let screen = Screen::enter()?;
    loop {
        shown.draw()?;
        let stdin = io::stdin();
        let mut waits = [
            PollFd::new(&stdin, PollFlags::IN),
            PollFd::from_borrowed_fd(heard.woken.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(woken.as_fd(), PollFlags::IN),
        ];
        match rustix::event::poll(&mut waits, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let typed = waits[0].revents();
        for mut stream in [&heard.woken, &woken] {
            while stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        }
        if heard.ended.load(Order::Relaxed) {
            return Ok(ExitCode::SUCCESS);
        }
        while let Ok(looked) = looked.try_recv() {
            shown.learn(looked);
        }
        let mut stop = heard.stopped.swap(false, Order::Relaxed);
        if !typed.is_empty() {
            let mut bytes = [0; 256];
            let read = rustix::io::read(&stdin, &mut bytes).unwrap_or(0);
            if read == 0 {
                // The terminal is gone.
                return Ok(ExitCode::SUCCESS);
            }
            let mut rest = &bytes[..read];
            while !rest.is_empty() {
                let (pressed, after) = key(rest);
                rest = after;
                match pressed {
                    Key::Quit => return Ok(ExitCode::SUCCESS),
                    Key::Stop => stop = true,
                    pressed => shown.press(pressed),
                }
            }
        }
        if stop {
            screen.give_back();
            signal_hook::low_level::raise(signal_hook::consts::SIGSTOP)?;
            screen.take()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_also_when_they_come_together() {
        let mut rest = &b"m\x1b[Bx\x1b[5~q"[..];
        let mut keys = Vec::new();
        while !rest.is_empty() {
            let (pressed, after) = key(rest);
            keys.push(pressed);
            rest = after;
        }
        let memory = Key::Sort(Sort::Memory);
        assert_eq!(
            keys,
            [memory, Key::Down(1), Key::Nothing, Key::Up(10), Key::Quit]
        );
    }

    #[test]
    fn a_line_is_cut_where_the_screen_ends_and_colours_are_kept() {
        assert_eq!(cut("\x1b[7mabcdef\x1b[0m", 3), "\x1b[7mabc\x1b[0m");
        assert_eq!(cut("°C°C", 2), "°C");
    }

    #[test]
    fn times_and_sizes_fit_their_columns() {
        let spans = [5, 65, 3_700, 90_000].map(short);
        assert_eq!(spans, ["5s", "1m05s", "1h01m", "1d01h"]);
        let sizes = [512, 2_048, 5 << 30].map(bytes);
        assert_eq!(sizes, ["512 B", "2.0 KiB", "5.0 GiB"]);
    }
}
