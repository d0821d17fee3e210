//! A rehearsal that is lived by the clock answers as a node does: with its key, in the same shapes, and says why.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::place::{Place, wait_until};
use serde_json::Value;

struct Lived {
    twin: Child,
    address: String,
    key: String,
}

impl Drop for Lived {
    fn drop(&mut self) {
        let _ = self.twin.kill();
        let _ = self.twin.wait();
    }
}

impl Lived {
    /// The universe of seven nodes, each of whose jobs waits for another reason, two hours on.
    fn begin(place: &Place, pace: &str) -> Self {
        let lists = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../universes/why");
        let lists = lists.to_str().unwrap();
        let words = [
            "twin",
            "live",
            "why",
            "--trace",
            lists,
            "--at",
            "2h",
            "--pace",
            pace,
            "--http",
            "127.0.0.1:0",
            "--quiet",
        ];
        let mut twin = place
            .command(&words)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(twin.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let (address, key) = line
            .trim()
            .strip_prefix("http://")
            .unwrap()
            .split_once("/#")
            .unwrap();
        Self {
            twin,
            address: address.to_owned(),
            key: key.to_owned(),
        }
    }

    fn ask(&self, request: &str, key: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}",
            self.address
        )
        .unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn get(&self, path: &str) -> Value {
        let (status, told) = self.ask(&format!("GET {path}"), &self.key, "");
        assert_eq!(status, 200, "{path}: {told}");
        told
    }
}

#[test]
fn a_rehearsal_is_asked_as_a_node_is_and_says_why() {
    let place = Place::new();
    let lived = Lived::begin(&place, "1");
    assert_eq!(lived.ask("GET /api/v1/status", "", "").0, 401);
    assert_eq!(lived.ask("GET /api/v1/members", "wrong", "").0, 401);
    let status = lived.get("/api/v1/status");
    assert_eq!(status["rehearsal"]["universe"], "why");
    assert_eq!(status["cores"], 52, "GPUs of the site");
    let members = lived.get("/api/v1/members");
    let (holons, machines) = (&members["holons"], members["members"].as_array().unwrap());
    assert_eq!(machines.len(), 7);
    for machine in machines {
        let rack = &holons[machine["holon"].as_u64().unwrap() as usize];
        assert_eq!(rack["level"], "rack", "{machine}");
        let row = &holons[rack["parent"].as_u64().unwrap() as usize];
        assert_eq!(
            (&row["level"], &row["parent"]),
            (&Value::from("row"), &Value::from(0))
        );
        assert!(row["cooling"].as_f64().unwrap() > 0.0);
        let vitals = &machine["vitals"];
        assert!(
            vitals["temperature"]["celsius"].as_f64().unwrap() > 20.0,
            "{machine}"
        );
        assert_eq!(vitals["temperature"]["source"], "modelled");
    }
    // What is leased is what runs there.
    let programs = lived.get("/api/v1/programs");
    let programs = programs["programs"].as_array().unwrap();
    let runs = programs
        .iter()
        .filter(|program| program["phase"] == "running")
        .count();
    let leases: u64 = machines
        .iter()
        .map(|machine| machine["vitals"]["leases"].as_u64().unwrap())
        .sum();
    assert!(runs > 0 && leases >= runs as u64, "{runs} {leases}");
    assert_eq!(status["running"], runs);
    let why = lived.get("/api/v1/programs/train-8/why");
    let now = why["now"].as_str().unwrap();
    assert!(
        now.contains("train-8 waits") && now.contains("scattered"),
        "{now}"
    );
    assert_eq!(why["decisions"][0]["action"], "queue");
    let busiest = machines
        .iter()
        .max_by_key(|machine| machine["vitals"]["leases"].as_u64())
        .unwrap();
    let name = busiest["name"].as_str().unwrap();
    let why = lived.get(&format!("/api/v1/members/{name}/why"));
    assert!(why["now"].as_str().unwrap().contains("here run "), "{why}");
    assert!(
        why["decisions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|decision| decision["action"] == "place"),
        "{why}"
    );
    let site = lived.get("/api/v1/why");
    assert!(
        site["now"]
            .as_str()
            .unwrap()
            .contains("of all GPUs are claimed"),
        "{site}"
    );
    // Nothing can be commanded, and nobody is there who is not.
    let (refused, said) = lived.ask(
        "POST /api/v1/programs",
        &lived.key,
        r#"{"words": ["true"]}"#,
    );
    assert_eq!(refused, 409);
    assert!(
        said["error"].as_str().unwrap().contains("rehearsal"),
        "{said}"
    );
    assert_eq!(
        lived
            .ask("GET /api/v1/members/nobody/why", &lived.key, "")
            .0,
        404
    );
    assert_eq!(
        lived
            .ask("GET /api/v1/programs/nobody/why", &lived.key, "")
            .0,
        404
    );
}

#[test]
fn it_goes_by_the_clock_and_ends_when_it_is_told() {
    let place = Place::new();
    let mut lived = Lived::begin(&place, "600");
    let at = || {
        lived.get("/api/v1/status")["rehearsal"]["at_s"]
            .as_f64()
            .unwrap()
    };
    let first = at();
    assert!(first >= 7_200.0, "{first}");
    wait_until("an hour has passed", || at() > first + 3_600.0);
    // What happened meanwhile is told as news of programs are.
    let mut stream = TcpStream::connect(&lived.address).unwrap();
    write!(
        stream,
        "GET /api/v1/live HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        lived.address, lived.key
    )
    .unwrap();
    let mut seen = (false, false);
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        seen.0 |= line.ends_with("event: sample");
        seen.1 |= line.ends_with("event: program");
        if seen == (true, true) {
            break;
        }
    }
    let told = Command::new("kill")
        .args(["-INT", &lived.twin.id().to_string()])
        .status()
        .unwrap();
    assert!(told.success());
    assert_eq!(lived.twin.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_be_lived_is_refused() {
    let place = Place::new();
    let refused = |words: &[&str]| {
        let said = place.cosmos(words, "");
        assert_eq!(said.code, Some(2), "{}", said.err);
        said.err
    };
    assert!(refused(&["twin", "live", "five"]).contains("expected a site"));
    assert!(refused(&["twin", "live", "gpu-1024"]).contains("--trace DIR"));
    assert!(
        refused(&["twin", "live", "why", "--pace", "0"])
            .contains("expected a number from 0.01 to 3600")
    );
    let lists = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../universes/why");
    let late = [
        "twin",
        "live",
        "why",
        "--trace",
        lists.to_str().unwrap(),
        "--at",
        "3d",
        "--http",
        "127.0.0.1:0",
    ];
    assert!(refused(&late).contains("which is at 16 h"));
}
