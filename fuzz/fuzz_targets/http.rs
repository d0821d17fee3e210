#![no_main]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use daemon::control::{Answer, Request};
use daemon::front::live::Live;
use daemon::front::{self, Shown};
use daemon::journal::Journal;
use daemon::news::News;
use libfuzzer_sys::arbitrary::{self, Arbitrary};

const KEY: &str = "key";

/// Somebody who is shown and refuses everything: the front in front of it is the node's.
struct Nobody {
    news: News,
    journal: Arc<Journal>,
}

impl Shown for Nobody {
    fn ask(&self, question: Request) -> Answer {
        match question {
            Request::List => Answer::List {
                programs: Vec::new(),
            },
            Request::Members => Answer::Members {
                members: Vec::new(),
                holons: Vec::new(),
            },
            // What a node would be asked can be said over its socket too.
            question => Answer::Refused {
                because: serde_json::to_string(&question).expect("a request is plain data"),
            },
        }
    }

    fn knows(&self, program: &str) -> bool {
        program == "known"
    }

    fn journal(&self, program: &str) -> Option<Arc<Journal>> {
        (program == "known").then(|| Arc::clone(&self.journal))
    }

    fn news(&self) -> &News {
        &self.news
    }
}

fn address() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("fuzz-http-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let journal = Journal::open(&folder, "known").expect("a journal");
        journal.write(b"said\n").expect("a disk");
        let shown = Arc::new(Nobody {
            news: News::default(),
            journal: Arc::new(journal),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        front::serve(listener, KEY, shown, Arc::new(Live::default()), async {}).expect("a thread")
    })
}

#[derive(Debug, Arbitrary)]
enum Said<'a> {
    /// Anything.
    Bytes(&'a [u8]),
    /// A request as HTTP has them.
    Asked {
        method: Method,
        path: Vec<Part<'a>>,
        query: Option<&'a str>,
        key: Key,
        json: bool,
        host: Option<&'a str>,
        body: Body<'a>,
    },
}

#[derive(Debug, Arbitrary)]
enum Method {
    Get,
    Head,
    Post,
    Delete,
    Put,
    Options,
    Other(u8),
}

#[derive(Debug, Arbitrary)]
enum Part<'a> {
    Known(u8),
    Text(&'a str),
    Escaped(&'a [u8]),
}

#[derive(Debug, Arbitrary)]
enum Key {
    Right,
    Wrong,
    None,
}

#[derive(Debug, Arbitrary)]
enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    Wish {
        words: Vec<&'a str>,
        name: Option<&'a str>,
        more: &'a str,
        replicas: i64,
        of_fleet: bool,
    },
}

const PARTS: [&str; 17] = [
    "api",
    "v1",
    "programs",
    "fleet",
    "members",
    "known",
    "unknown",
    "why",
    "logs",
    "stop",
    "status",
    "live",
    "services",
    "metrics",
    "healthz",
    "readyz",
    "openapi.json",
];

/// What may stand in a path or a head as it is.
fn plain(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_graphic() && !"#?%\"<>\\^`{}|/".contains(*c))
        .collect()
}

fn ask(bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address()).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a time");
    // It may have answered and gone before all of it was said.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let (mut answered, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return answered,
            Ok(length) => answered.extend(&piece[..length]),
        }
        // Who watches is served for ever.
        if answered
            .windows(17)
            .any(|window| window == b"text/event-stream")
        {
            return answered;
        }
    }
}

/// Status and body, if it is an answer.
fn read(answered: &[u8]) -> Option<(u16, String, String)> {
    let text = String::from_utf8_lossy(answered);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    Some((status, head.to_ascii_lowercase(), body.to_owned()))
}

// Whatever is sent to a node's HTTP: there is an answer to every request, and one that says no says why, as JSON.
libfuzzer_sys::fuzz_target!(|said: Said<'_>| {
    match said {
        Said::Bytes(bytes) => {
            let answered = ask(bytes);
            // A request that never came to its end has no answer.
            if let Some((status, head, body)) = read(&answered) {
                assert!((200..600).contains(&status), "{head}");
                // What is no HTTP at all is refused without words, by who reads it.
                if status >= 400 && !body.is_empty() && !head.contains("transfer-encoding") {
                    assert!(head.contains("application/json"), "{head}\n{body}");
                }
            } else {
                assert!(
                    answered.is_empty(),
                    "{:?}",
                    String::from_utf8_lossy(&answered)
                );
            }
        }
        Said::Asked {
            method,
            path,
            query,
            key,
            json,
            host,
            body,
        } => {
            let (method, is_head) = match method {
                Method::Get => ("GET".to_owned(), false),
                Method::Head => ("HEAD".to_owned(), true),
                Method::Post => ("POST".to_owned(), false),
                Method::Delete => ("DELETE".to_owned(), false),
                Method::Put => ("PUT".to_owned(), false),
                Method::Options => ("OPTIONS".to_owned(), false),
                Method::Other(n) => (format!("M{n}"), false),
            };
            let mut target = String::new();
            for part in &path {
                target.push('/');
                match part {
                    Part::Known(n) => target.push_str(PARTS[usize::from(*n) % PARTS.len()]),
                    Part::Text(text) => target.push_str(&plain(text)),
                    Part::Escaped(bytes) => bytes
                        .iter()
                        .take(64)
                        .for_each(|byte| target.push_str(&format!("%{byte:02x}"))),
                }
            }
            if target.is_empty() || target.starts_with("//") {
                target.insert_str(0, "/x");
            }
            if let Some(query) = query {
                target.push('?');
                target.push_str(&plain(query));
            }
            // A log is read to its end only if it is not followed, and nobody waits here for ten minutes.
            let target: String = target
                .replace("follow=true", "follow=false")
                .chars()
                .take(8000)
                .collect();
            let body = match body {
                Body::None => Vec::new(),
                Body::Bytes(bytes) => bytes.to_vec(),
                Body::Wish {
                    words,
                    name,
                    more,
                    replicas,
                    of_fleet,
                } => {
                    let program = serde_json::json!({ "words": words, "name": name, more: 1, "environment": { more: more } });
                    let plain = serde_json::json!({ "words": words, "name": name, "environment": { more: more } });
                    let program = if more.len() % 2 == 0 { plain } else { program };
                    match of_fleet {
                        true => serde_json::json!({ "program": program, "replicas": replicas })
                            .to_string()
                            .into_bytes(),
                        false => program.to_string().into_bytes(),
                    }
                }
            };
            let mut request = format!(
                "{method} {target} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n",
                body.len()
            );
            match key {
                Key::Right => request.push_str("Authorization: Bearer key\r\n"),
                Key::Wrong => request.push_str("Authorization: Bearer kex\r\n"),
                Key::None => {}
            }
            if json {
                request.push_str("Content-Type: application/json\r\n");
            }
            request.push_str(&format!("Host: {}\r\n\r\n", plain(host.unwrap_or("here"))));
            let mut bytes = request.clone().into_bytes();
            bytes.extend(&body);
            let answered = ask(&bytes);
            let Some((status, head, said)) = read(&answered) else {
                panic!(
                    "no answer to {request:?}: {:?}",
                    String::from_utf8_lossy(&answered)
                );
            };
            assert!(
                (200..600).contains(&status) && status != 500,
                "{request}: {head}"
            );
            if status >= 400 && !is_head && !said.is_empty() {
                let problem: serde_json::Value = serde_json::from_str(&said)
                    .unwrap_or_else(|error| panic!("{error}: {request}: {head}\n{said}"));
                assert!(
                    problem["error"]
                        .as_str()
                        .is_some_and(|error| !error.is_empty()),
                    "{said}"
                );
            }
            // Who has not shown the key is told nothing but the page.
            let open = [
                "/",
                "/dashboard.js",
                "/fleet.js",
                "/style.css",
                "/uplot.js",
                "/uplot.css",
            ];
            let place = target.split('?').next().unwrap_or_default();
            if status < 300 && !open.contains(&place) {
                assert!(matches!(key, Key::Right), "{request}: {head}");
            }
        }
    }
});
