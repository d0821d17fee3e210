//! The node's HTTP: only with its key, one thing after another, and nothing that breaks it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::place::{Place, Up, wait_until};
use serde_json::{Value, json};

/// A node with a dashboard somewhere on loopback.
struct Front {
    _node: Up,
    place: Place,
    address: String,
    key: String,
}

struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Front {
    fn new() -> Self {
        let place = Place::new();
        let mut up = place.command(&["up", "--http", "127.0.0.1:0"]);
        let (node, _) = Up::with_warnings(&mut up);
        let told = place.cosmos(&["dashboard", "--json"], "");
        let told: Value = serde_json::from_str(&told.out).unwrap();
        let text = |key: &str| told[key].as_str().unwrap().to_owned();
        let (address, key) = (text("address"), text("key"));
        assert_eq!(text("url"), format!("http://{address}/#{key}"));
        Self {
            _node: node,
            place,
            address,
            key,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }

    fn raw(&self, request: &str) -> Answered {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answered = String::new();
        stream.read_to_string(&mut answered).unwrap();
        let (head, body) = answered.split_once("\r\n\r\n").unwrap_or((&answered, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Answered {
            status: status.unwrap_or_else(|| panic!("no answer: {answered:?}")),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answered {
        let body = body.map_or(String::new(), Value::to_string);
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address, self.key, body.len()
        ))
    }
}

#[test]
fn what_the_fleet_runs_is_given_listed_stopped_and_forgotten() {
    let up = Front::new();
    let wish = json!({"program": {"words": ["sleep", "1000"], "name": "web"}, "replicas": 1});
    let made = up.ask("POST", "/api/v1/fleet/programs", Some(&wish));
    assert_eq!((made.status, made.json()), (201, json!({"name": "web"})));
    assert_eq!(
        up.ask("POST", "/api/v1/fleet/programs", Some(&wish)).status,
        409
    );
    let standing = || {
        let all = up.ask("GET", "/api/v1/fleet/programs", None).json();
        all["programs"][0]["standing"][0]["state"].clone()
    };
    wait_until("it runs", || standing() == "running");
    // A replica is heard and accounted for through whatever machine is asked.
    let status = up.ask("GET", "/api/v1/status", None).json();
    let member = status["fleet"]["name"].as_str().unwrap().to_owned();
    let there = |program: &str, what: &str| {
        up.ask(
            "GET",
            &format!("/api/v1/members/{member}/programs/{program}/{what}"),
            None,
        )
    };
    assert_eq!(there("web~0", "logs").status, 200);
    assert_eq!(there("web~0", "why").json()["program"]["phase"], "running");
    assert_eq!(there("none", "logs").status, 409);
    let why = |name: &str| up.ask("GET", &format!("/api/v1/fleet/programs/{name}/why"), None);
    let told = why("web~0").json();
    let placed = &told["fleet"]["placed"][0];
    assert_eq!(placed["candidates"][0]["node"], placed["node"]);
    assert_eq!(placed["candidates"][0]["beside"], 0);
    assert_eq!(told["fleet"]["waits"], Value::Null);
    assert_eq!((why("other").status, why("web~7").status), (404, 409));
    let removed = up.ask("DELETE", "/api/v1/fleet/programs/web", None);
    assert_eq!(removed.status, 409, "it runs: {}", removed.body);
    let stop = || {
        up.ask("POST", "/api/v1/fleet/programs/web/stop", None)
            .status
    };
    assert_eq!(stop(), 200);
    assert_eq!(standing(), Value::Null);
    assert_eq!(
        up.ask("DELETE", "/api/v1/fleet/programs/web", None).status,
        200
    );
    assert_eq!(stop(), 404, "there is none");
    let document = up.ask("GET", "/api/openapi.json", None).json();
    let given = &document["paths"]["/api/v1/fleet/programs"]["post"];
    assert!(given["requestBody"].is_object(), "{document}");
}

#[test]
fn a_program_is_started_heard_measured_stopped_and_forgotten() {
    let up = Front::new();
    let script = "echo begun; while :; do :; done";
    let wish = json!({"words": ["sh", "-c", script], "name": "busy", "environment": {"A": "b"}});
    let made = up.ask("POST", "/api/v1/programs", Some(&wish));
    assert_eq!((made.status, made.json()), (201, json!({"name": "busy"})));
    let again = up.ask("POST", "/api/v1/programs", Some(&wish));
    assert_eq!(again.status, 409);
    assert!(again.json()["error"].as_str().unwrap().contains("already"));
    wait_until("it has spoken", || {
        up.ask("GET", "/api/v1/programs/busy/logs", None)
            .body
            .contains("begun")
    });
    // What is seen here is what the command line sees.
    let here = up.ask("GET", "/api/v1/programs", None).json();
    let there = up.place.cosmos(&["ps", "--json"], "").out;
    assert_eq!(here, serde_json::from_str::<Value>(&there).unwrap());
    wait_until("it is measured", || {
        let metrics = up.ask("GET", "/metrics", None).body;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("cosmos_program_cores{program=\"busy\"}"));
        line.is_some_and(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() > 0.05)
    });
    let metrics = up.ask("GET", "/metrics", None).body;
    assert!(
        metrics.ends_with("# EOF\n") && metrics.contains("cosmos_temperature_celsius{source="),
        "{metrics}"
    );
    let removed = up.ask("DELETE", "/api/v1/programs/busy", None);
    assert_eq!(removed.status, 409, "it runs: {}", removed.body);
    assert_eq!(
        up.ask("POST", "/api/v1/programs/busy/stop", None).status,
        200
    );
    assert_eq!(up.ask("DELETE", "/api/v1/programs/busy", None).status, 200);
    assert_eq!(up.ask("DELETE", "/api/v1/programs/busy", None).status, 404);
}

#[test]
fn whoever_watches_is_told_what_happens_and_what_is_used() {
    let up = Front::new();
    let mut stream = up.connect();
    write!(
        stream,
        "GET /api/v1/live HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        up.address, up.key
    )
    .unwrap();
    let wish = json!({"words": ["sh", "-c", "exit 3"], "name": "brief"});
    assert_eq!(up.ask("POST", "/api/v1/programs", Some(&wish)).status, 201);
    let mut seen = String::new();
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        seen += &format!("{line}\n");
        // An event ends with an empty line.
        if line.is_empty()
            && seen.contains("\"phase\":\"ended\",\"code\":3")
            && seen.contains("event: sample")
        {
            break;
        }
    }
    let data = seen
        .lines()
        .skip_while(|line| !line.contains("event: sample"))
        .nth(1)
        .unwrap();
    let sample: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert!(sample["memory_total_bytes"].as_u64().unwrap() > 1 << 20);
    assert!((0.0..=1.0).contains(&sample["busy"].as_f64().unwrap()));
    assert!(["modelled", "measured"].contains(&sample["temperature"]["source"].as_str().unwrap()));
    // Running before it ended.
    let at = |what: &str| seen.find(what).unwrap_or_else(|| panic!("{what}: {seen}"));
    assert!(at("\"phase\":\"running\"") < at("\"phase\":\"ended\""));
}

#[test]
fn nobody_is_served_without_the_key_nor_a_page_of_another_site() {
    let up = Front::new();
    let with = |more: &str| {
        up.raw(&format!(
            "GET /api/v1/status HTTP/1.1\r\nHost: {}\r\n{more}Connection: close\r\n\r\n",
            up.address
        ))
    };
    let right = format!("Authorization: Bearer {}\r\n", up.key);
    assert_eq!(with(&right).status, 200);
    assert_eq!(with("").status, 401);
    assert_eq!(with("Authorization: Bearer 00\r\n").status, 401);
    assert_eq!(
        with(&format!("{right}Origin: https://elsewhere.example\r\n")).status,
        403
    );
    for path in [
        "/api/v1/programs",
        "/api/v1/live",
        "/metrics",
        "/healthz",
        "/readyz",
        "/api/openapi.json",
    ] {
        let bare = up.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(bare.status, 401, "{path}");
        assert!(
            bare.json()["error"]
                .as_str()
                .unwrap()
                .contains("cosmos dashboard")
        );
    }
    // The page itself tells nothing, asks nobody else, and may stand in no frame.
    let page = up.raw("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(page.status, 200);
    assert!(!page.body.contains(&up.key) && !page.body.contains("http"));
    assert!(
        page.head.contains("default-src 'none'") && page.head.contains("frame-ancestors 'none'")
    );
}

#[test]
fn what_is_wrong_is_refused_with_what_was_expected() {
    let up = Front::new();
    let post = |body: &Value| up.ask("POST", "/api/v1/programs", Some(body));
    for (body, status, says) in [
        (json!({}), 422, "missing field `words`"),
        (
            json!({"words": ["sh"], "surprise": true}),
            422,
            "unknown field `surprise`",
        ),
        (json!({"words": []}), 422, "expected at least"),
        (json!({"words": ["./here"]}), 422, "relative path"),
        (
            json!({"words": ["no-such-program"]}),
            422,
            "there is no program",
        ),
        (
            json!({"words": ["sh"], "name": "a b"}),
            409,
            "expected at most 64 letters",
        ),
        (
            json!({"words": ["sh"], "limits": {"memory": null, "cores": -1.0, "fuel": null}}),
            409,
            "no such number of cores",
        ),
        (
            json!({"words": ["sh"], "limits": {"memory": 0, "cores": null, "fuel": null}}),
            409,
            "no memory at all",
        ),
        (
            json!({"words": ["sh"], "limits": {"memory": null, "cores": null, "fuel": 5}}),
            409,
            "is no capsule",
        ),
        (json!({"words": ["sh", "a\0b"]}), 409, "a zero byte"),
        (
            json!({"words": ["sh"], "environment": {"A=B": "c"}}),
            409,
            "without a name",
        ),
        (
            json!({"words": ["sh"], "network": "host", "ports": [{"host": "127.0.0.1:0", "guest": 80}]}),
            409,
            "into which nothing leads",
        ),
        (json!({"words": ["x".repeat(70_000)]}), 413, ""),
    ] {
        let answered = post(&body);
        let error = answered.json()["error"].as_str().unwrap().to_owned();
        assert_eq!(answered.status, status, "{error}");
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(up.ask("GET", "/nowhere", None).status, 404);
    assert_eq!(up.ask("PUT", "/api/v1/status", None).status, 405);
    assert_eq!(
        up.ask("GET", "/api/v1/programs/none/logs", None).status,
        404
    );
    let perhaps = up.ask("GET", "/api/v1/programs/none/logs?follow=perhaps", None);
    assert_eq!(perhaps.status, 400);
    assert!(perhaps.json()["error"].as_str().unwrap().contains("follow"));
    // A name that is no text, wherever one may stand.
    for path in [
        "/api/v1/programs/%ff/why",
        "/api/v1/programs/%ff/logs",
        "/api/v1/members/%ff/why",
        "/api/v1/members/a/programs/%ff/logs",
    ] {
        let answered = up.ask("GET", path, None);
        assert_eq!(answered.status, 400, "{path}");
        let error = answered.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains("UTF-8"), "{error}");
    }
    // Nothing that was refused is known.
    assert_eq!(
        up.ask("GET", "/api/v1/programs", None).json(),
        json!({"programs": []})
    );
    let garbage = up.raw("\u{16}\u{3}\u{1} no request at all\r\n\r\n");
    assert_eq!(garbage.status, 400);
    assert_eq!(up.ask("GET", "/healthz", None).status, 200);
}

#[test]
fn idle_connections_lock_nobody_out() {
    let up = Front::new();
    let mut idle: Vec<_> = (0..200).map(|_| up.connect()).collect();
    assert_eq!(up.ask("GET", "/healthz", None).status, 200);
    // The longest silent went; the last are still let speak.
    assert_eq!(idle[0].read(&mut [0]).unwrap_or(0), 0);
    let last = idle.last_mut().unwrap();
    write!(
        last,
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    assert!(last.read(&mut [0; 16]).unwrap() > 0);
}

#[test]
fn who_follows_more_than_may_be_loses_the_oldest_and_nobody_is_kept_out() {
    let up = Front::new();
    let follow = || {
        let mut stream = up.connect();
        write!(
            stream,
            "GET /api/v1/live HTTP/1.1\r\nHost: {}\r\nAuthorization: bearer {}\r\n\r\n",
            up.address, up.key
        )
        .unwrap();
        let mut status = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        stream
    };
    let mut followers: Vec<_> = (0..128).map(|_| follow()).collect();
    assert_eq!(up.ask("GET", "/api/v1/status", None).status, 200);
    let mut rest = Vec::new();
    // It ends; as long as it went on this would read until nothing came for a minute, which is an error.
    followers[0].read_to_end(&mut rest).unwrap();
    assert!(followers[127].read(&mut [0; 16]).unwrap() > 0);
}

#[test]
fn the_api_says_why_a_program_is_as_it_is() {
    let up = Front::new();
    let wish = json!({"words": ["sh", "-c", "exit 3"], "name": "brief"});
    assert_eq!(up.ask("POST", "/api/v1/programs", Some(&wish)).status, 201);
    let why = || up.ask("GET", "/api/v1/programs/brief/why", None).json();
    wait_until("it has ended", || why()["program"]["phase"] == "ended");
    let there = up.place.cosmos(&["why", "brief", "--json"], "").out;
    assert_eq!(why(), serde_json::from_str::<Value>(&there).unwrap());
    assert!(why()["now"].as_str().unwrap().contains("it ended with 3"));
    let services = up.ask("GET", "/api/v1/services", None).json();
    assert_eq!(services["services"][0]["name"], "cosmOS");
}

#[test]
fn every_path_of_the_document_is_served() {
    let up = Front::new();
    let document = up.ask("GET", "/api/openapi.json", None).json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 10);
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            // Who watches is served for ever.
            if path.ends_with("/live") {
                continue;
            }
            let asked = up.ask(
                &method.to_uppercase(),
                &path
                    .replace("{name}", "nobody")
                    .replace("{program}", "nothing"),
                None,
            );
            let known = match path.contains("{name}") {
                true => {
                    let what = match path.contains("/members/") {
                        true => "no machine named",
                        false => "no program named",
                    };
                    asked.status == 404 && asked.body.contains(what)
                }
                false => asked.status == 200 || method == "post",
            };
            assert!(known, "{method} {path}: {} {}", asked.status, asked.body);
        }
    }
}

#[test]
fn a_node_without_a_dashboard_says_so() {
    let place = Place::new();
    let mut child = place.command(&["up", "--http", "off"]).spawn().unwrap();
    wait_until("it answers", || {
        place.cosmos(&["status"], "").code == Some(0)
    });
    let said = place.cosmos(&["dashboard"], "");
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("--http off"), "{}", said.err);
    let _ = child.kill();
    let _ = child.wait();
    let said = place.cosmos(&["up", "--http", "7600"], "");
    assert_eq!(said.code, Some(2));
    assert!(
        said.err.contains("expected an address with a port"),
        "{}",
        said.err
    );
}
