//! Capsules that answer HTTP, asked through real sockets by friends and others.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::capsules::example;
use crate::place::{Place, Up, wait_until};

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().unwrap().port()
}

/// The example, and what it says.
struct Served {
    child: Child,
    port: u16,
    log: Arc<Mutex<String>>,
}

impl Served {
    fn begin(place: &Place, more: &[&str]) -> Option<Self> {
        let http = example("http", "wasm32-wasip2")?;
        let port = free_port();
        let ports = format!("{port}:80");
        let asked = [&["run", "--port", &ports], more, &[&http]].concat();
        let mut child = place.command(&asked).spawn().expect("it starts");
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).expect("it says something");
        assert_eq!(
            line,
            format!("note: {http} answers HTTP at http://127.0.0.1:{port}\n")
        );
        let log = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        Some(Self { child, port, log })
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        // A test that would wait for ever fails instead.
        stream
            .set_read_timeout(Some(Duration::from_secs(120)))
            .expect("a socket");
        stream
    }

    /// Status and body.
    fn ask(&self, head: &str, body: &[u8]) -> (u16, String) {
        let mut stream = self.connect();
        let head = format!(
            "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // It may have refused already.
        let _ = stream.write_all(body);
        answer(stream)
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path}"), b"")
    }

    fn logged(&self, what: &str) {
        wait_until(&format!("the log says {what:?}"), || {
            self.log.lock().unwrap().contains(what)
        });
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(mut stream: TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    // Who is refused in the midst of a body may find the connection reset behind the answer.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    (
        status.unwrap_or(0),
        if chunked {
            dechunked(body)
        } else {
            body.to_owned()
        },
    )
}

fn dechunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, behind)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap_or(0);
        if length == 0 || length > behind.len() {
            break;
        }
        body.push_str(&behind[..length]);
        rest = behind[length..].trim_start_matches("\r\n");
    }
    body
}

#[test]
fn each_request_is_answered_by_an_instance_of_its_own() {
    let place = Place::new();
    let Some(served) = Served::begin(&place, &[]) else {
        return;
    };
    assert_eq!(served.get("/"), (200, "Hello, world!\n".into()));
    assert_eq!(served.get("/Ada"), (200, "Hello, Ada!\n".into()));
    assert_eq!(served.ask("POST /reverse", b"abc"), (200, "cba".into()));
    let large = "x".repeat(3 << 20) + "y";
    let (status, body) = served.ask("POST /reverse", large.as_bytes());
    assert_eq!((status, body.len(), &body[..2]), (200, large.len(), "yx"));
    for _ in 0..3 {
        assert_eq!(served.get("/count"), (200, "1\n".into()));
    }
    // Several on one connection, and many at a time.
    let mut stream = served.connect();
    stream
        .write_all(&b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n".repeat(3))
        .unwrap();
    stream
        .write_all(b"GET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(
        (
            said.matches("Hello, a!").count(),
            said.matches("Hello, b!").count()
        ),
        (3, 1)
    );
    std::thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| assert_eq!(served.get("/count"), (200, "1\n".into())));
        }
    });
}

#[test]
fn what_ends_badly_is_answered_with_500_and_its_reason_is_in_the_log() {
    let place = Place::new();
    // Enough for an answer and far too little for ever.
    let Some(served) = Served::begin(&place, &["--fuel", "20000000", "--mem", "8MiB"]) else {
        return;
    };
    let (mut asked, failed) = (0, "the program failed; its log says how\n");
    for (path, says) in [
        ("/trap", "error: GET /trap: "),
        (
            "/forever",
            "it has used its 20000000 units of fuel (--fuel)",
        ),
        ("/hungry", "its limit is 8388608 (--mem)"),
        ("/mute", "ended and gave no answer"),
    ] {
        assert_eq!(served.get(path), (500, failed.to_owned()), "{path}");
        served.logged(says);
        asked += 1;
        assert_eq!(served.get("/count"), (200, "1\n".into()), "after {asked}");
    }
    served.logged("as it was asked to");
}

#[test]
fn who_means_ill_is_refused_and_others_are_answered() {
    let place = Place::new();
    let Some(served) = Served::begin(&place, &[]) else {
        return;
    };
    let well = || assert_eq!(served.get("/"), (200, "Hello, world!\n".into()));
    // A head without end, in one line and in many.
    for line in ["x", "x: y\r\n"] {
        let mut stream = served.connect();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nLong: ")
            .unwrap();
        for _ in 0..1 << 20 {
            if stream.write_all(line.repeat(64).as_bytes()).is_err() {
                break;
            }
        }
        let (status, _) = answer(stream);
        assert!(matches!(status, 0 | 431), "{line:?}: {status}");
        well();
    }
    // A body that says it is too long, and one that only is.
    let mut stream = served.connect();
    stream
        .write_all(b"POST /reverse HTTP/1.1\r\nHost: x\r\nContent-Length: 8388609\r\n\r\n")
        .unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
    let mut stream = served.connect();
    stream
        .write_all(b"POST /reverse HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = format!("10000\r\n{}\r\n", "z".repeat(0x10000));
    for _ in 0..200 {
        if stream.write_all(chunk.as_bytes()).is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n");
    let (status, said) = answer(stream);
    assert!(matches!(status, 0 | 400), "{status} {said:.80}");
    well();
    // No HTTP, two lengths, an absurd length, half a request.
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello"[..],
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHo",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let mut stream = served.connect();
        stream.write_all(bytes).unwrap();
        let _ = stream.shutdown(Shutdown::Write);
        let (status, _) = answer(stream);
        assert!(matches!(status, 0 | 400 | 413), "{bytes:?}: {status}");
        well();
    }
    // Who asks and leaves takes nobody with them.
    for _ in 0..50 {
        let mut stream = served.connect();
        stream
            .write_all(b"GET /forever HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
    }
    well();
}

#[test]
fn patience_ends_and_places_become_free() {
    let place = Place::new();
    let Some(served) = Served::begin(&place, &[]) else {
        return;
    };
    let mut slow_head = served.connect();
    slow_head.write_all(b"GET / HTTP/1.1\r\nHost:").unwrap();
    let mut slow_body = served.connect();
    slow_body
        .write_all(b"POST /reverse HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nfour")
        .unwrap();
    let mut forever = served.connect();
    forever
        .write_all(b"GET /forever HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    // One that computes without end lets others be answered.
    assert_eq!(served.get("/"), (200, "Hello, world!\n".into()));
    // More than there are places: who comes behind them is answered when they have been idle too long.
    let idle: Vec<_> = (0..300).map(|_| served.connect()).collect();
    assert_eq!(served.get("/"), (200, "Hello, world!\n".into()));
    drop(idle);
    assert!(matches!(answer(slow_head).0, 0 | 408));
    assert_eq!(answer(slow_body).0, 500);
    let (status, _) = answer(forever);
    assert_eq!(status, 500);
    served.logged("error: POST /reverse: no answer within 30 s");
    served.logged("error: GET /forever: no answer within 30 s");
}

#[test]
fn told_to_end_it_answers_what_was_asked() {
    let place = Place::new();
    let Some(mut served) = Served::begin(&place, &[]) else {
        return;
    };
    let mut idle = served.connect();
    let mut asked = served.connect();
    asked
        .write_all(b"POST /reverse HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nfour")
        .unwrap();
    // Behind this answer, the other request has surely come.
    assert_eq!(served.get("/"), (200, "Hello, world!\n".into()));
    let process = served.child.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-TERM", &process])
            .status()
            .unwrap()
            .success()
    );
    wait_until("nobody is let in", || {
        TcpStream::connect(("127.0.0.1", served.port)).is_err()
    });
    assert!(
        served.child.try_wait().unwrap().is_none(),
        "it left with a request unanswered"
    );
    asked.write_all(b"ever").unwrap();
    assert_eq!(answer(asked), (200, "reveruof".into()));
    assert_eq!(
        idle.read(&mut [0]).unwrap_or(0),
        0,
        "who asks nothing is let go"
    );
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_node_serves_it_too_and_stops_it() {
    let place = Place::new();
    let Some(http) = example("http", "wasm32-wasip2") else {
        return;
    };
    let (_up, _) = Up::at(&place);
    let port = free_port();
    place.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--port",
        &format!("{port}:80"),
        &http,
    ]);
    let get = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream
            .write_all(b"GET /trap HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .ok()?;
        Some(answer(stream).0)
    };
    wait_until("it answers", || get() == Some(500));
    wait_until("its log says why", || {
        place.ok(&["logs", "web"]).contains("error: GET /trap: ")
    });
    assert_eq!(place.ok(&["stop", "web"]), "web\n");
    assert_eq!(place.program("web")["code"], 0);
    assert!(get().is_none());
}

#[test]
fn who_cannot_answer_gets_no_port_and_who_answers_needs_one() {
    let place = Place::new();
    let (Some(http), Some(greeting)) = (
        example("http", "wasm32-wasip2"),
        example("greeting", "wasm32-wasip2"),
    ) else {
        return;
    };
    let module = wat::parse_str(r#"(module (func (export "_start")))"#).unwrap();
    place.write("module.wasm", &module);
    let port = format!("{}:80", free_port());
    for (asked, code, says) in [
        (
            &[http.as_str()][..],
            125,
            "expected a port, such as --port 8080:80",
        ),
        (&["--port", &port, &greeting], 125, "does not answer HTTP"),
        (
            &["--port", &port, "module.wasm"],
            2,
            "is a module without on_event, which nobody can ask",
        ),
        (
            &["--deterministic", &http],
            125,
            "requests come when they come",
        ),
        (
            &["--deterministic", "--port", &port, &http],
            2,
            "cannot be used with",
        ),
        (
            &["--state", "x", &http],
            126,
            "what a component keeps inside cannot be seen",
        ),
    ] {
        let said = place.cosmos(&[&["run"], asked].concat(), "");
        assert_eq!(said.code, Some(code), "{asked:?}: {}", said.err);
        assert!(said.err.contains(says), "{asked:?}: {}", said.err);
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("{}:80", taken.local_addr().unwrap().port());
    let said = place.cosmos(&["run", "--port", &port, &http], "");
    assert_eq!(said.code, Some(125));
    assert!(said.err.contains("listening on 127.0.0.1:"), "{}", said.err);
}
