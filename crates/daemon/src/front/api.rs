//! What can be asked over HTTP. One table, [`routes`], makes both the server and its OpenAPI document, so neither can
//! say what the other does not.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::{StatusCode, header, request};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, response::sse};
use futures_util::stream;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::live::Sample;
use super::places::Place;
use super::{STREAM_LASTS, Shared, refused};
use crate::affairs::Affairs;
use crate::control::{Answer, Listed, PIECE_EVERY, Piece, Request, Status};
use crate::fleet;
use crate::health::Health;
use crate::history::Why;
use crate::news::Item;
use crate::program::{self, Folder, Limits, Network, Port, Program};
use crate::reasons;
use crate::services::Service;
use crate::supervision::Restart;

type App = State<Arc<Shared>>;

/// One thing that can be asked.
pub(super) struct Route {
    /// With a name in braces where any may stand.
    pub(super) path: &'static str,
    method: &'static str,
    summary: &'static str,
    asks: fn(&mut SchemaGenerator) -> Option<Value>,
    query: fn(&mut SchemaGenerator) -> Option<Value>,
    status: u16,
    kind: &'static str,
    answers: fn(&mut SchemaGenerator) -> Option<Value>,
    pub(super) serves: MethodRouter<Arc<Shared>>,
}

fn nothing(_: &mut SchemaGenerator) -> Option<Value> {
    None
}

fn schema<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Option<Value> {
    Some(schemas.subschema_for::<T>().to_value())
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything.
pub(super) fn routes() -> Vec<Route> {
    let plain = |path, method, summary, serves| Route {
        path,
        method,
        summary,
        asks: nothing,
        query: nothing,
        status: 200,
        kind: JSON,
        answers: nothing,
        serves,
    };
    vec![
        Route {
            answers: schema::<Status>,
            ..plain("/api/v1/status", "get", "How the node is.", get(status))
        },
        Route {
            answers: schema::<Members>,
            ..plain(
                "/api/v1/members",
                "get",
                "The machines of the fleet, as this node believes them to be, with how hot and how busy each said it is; and the holons they are in.",
                get(members),
            )
        },
        Route {
            answers: schema::<Why>,
            ..plain(
                "/api/v1/members/{name}/why",
                "get",
                "Why a machine is as it is: what it decided itself, and what the fleet agreed on about it.",
                get(why_member),
            )
        },
        Route {
            query: schema::<Following>,
            kind: TEXT,
            ..plain(
                "/api/v1/members/{name}/programs/{program}/logs",
                "get",
                "What a program on another machine of the fleet said, as it came.",
                get(logs_there),
            )
        },
        Route {
            answers: schema::<Why>,
            ..plain(
                "/api/v1/members/{name}/programs/{program}/why",
                "get",
                "Why a program on another machine of the fleet runs, does not, or was slowed, as that machine says.",
                get(why_there),
            )
        },
        Route {
            answers: schema::<Programs>,
            ..plain(
                "/api/v1/programs",
                "get",
                "What runs, and what ran, by name.",
                get(programs).post(run),
            )
        },
        Route {
            asks: schema::<Wish>,
            status: 201,
            answers: schema::<Done>,
            ..plain(
                "/api/v1/programs",
                "post",
                "Run a program, and keep it running as `restart` says. It is remembered before this is answered.",
                MethodRouter::new(),
            )
        },
        Route {
            answers: schema::<Done>,
            ..plain(
                "/api/v1/programs/{name}",
                "delete",
                "Forget a program that has ended, with what it said.",
                delete(remove),
            )
        },
        Route {
            answers: schema::<Done>,
            ..plain(
                "/api/v1/programs/{name}/stop",
                "post",
                "Ask a program to end, force it after 10 s, and do not start it again. Answered when it has ended.",
                post(stop),
            )
        },
        Route {
            query: schema::<Following>,
            kind: TEXT,
            ..plain(
                "/api/v1/programs/{name}/logs",
                "get",
                "What a program said, as it came.",
                get(logs),
            )
        },
        Route {
            answers: schema::<Why>,
            ..plain(
                "/api/v1/programs/{name}/why",
                "get",
                "Why a program runs, does not, or was slowed: how it is, and the decisions that led there with their causes.",
                get(why_program),
            )
        },
        Route {
            answers: schema::<Affairs>,
            ..plain(
                "/api/v1/fleet/programs",
                "get",
                "What the fleet runs and where each replica is, what its machines have and do, and what was decided last.",
                get(affairs).post(give),
            )
        },
        Route {
            asks: schema::<SharedWish>,
            status: 201,
            answers: schema::<Done>,
            ..plain(
                "/api/v1/fleet/programs",
                "post",
                "Let the fleet run a program in replicas, wherever it places them; its files lie on every machine under the same paths. Answered when its voters have agreed.",
                MethodRouter::new(),
            )
        },
        Route {
            answers: schema::<Done>,
            ..plain(
                "/api/v1/fleet/programs/{name}",
                "delete",
                "Forget a program of the fleet of which nothing runs.",
                delete(remove_shared),
            )
        },
        Route {
            answers: schema::<Done>,
            ..plain(
                "/api/v1/fleet/programs/{name}/stop",
                "post",
                "Let a program of the fleet run no more. Answered when none of it runs.",
                post(stop_shared),
            )
        },
        Route {
            answers: schema::<Why>,
            ..plain(
                "/api/v1/fleet/programs/{name}/why",
                "get",
                "Why a program of the fleet, or one of its replicas, runs where it does or waits: which machines fell to which test, what the others scored, and what would start it now.",
                get(why_shared),
            )
        },
        Route {
            answers: schema::<Why>,
            ..plain(
                "/api/v1/why",
                "get",
                "Why the machine is as it is: what its programs are given, and the decisions about all of them.",
                get(why_machine),
            )
        },
        Route {
            answers: schema::<Services>,
            ..plain(
                "/api/v1/services",
                "get",
                "The layers of the system by their names, as they were found just now.",
                get(services),
            )
        },
        Route {
            kind: "text/event-stream",
            ..plain(
                "/api/v1/live",
                "get",
                "Samples of what the machine and its programs use (`event: sample`), every two seconds and first those of the last twenty minutes, and what happens to programs (`event: program`).",
                get(live),
            )
        },
        Route {
            kind: OPENMETRICS,
            ..plain(
                "/metrics",
                "get",
                "The latest sample for Prometheus.",
                get(metrics),
            )
        },
        Route {
            kind: TEXT,
            ..plain(
                "/healthz",
                "get",
                "Whether the node decides: it has answered a question.",
                get(healthy),
            )
        },
        Route {
            kind: TEXT,
            ..plain(
                "/readyz",
                "get",
                "Whether the node takes programs; 503 while it ends.",
                get(healthy),
            )
        },
        plain("/api/openapi.json", "get", "This document.", get(openapi)),
    ]
}

/// Why something was refused.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Refused {
    /// In a sentence.
    pub(super) error: String,
}

/// All programs.
#[derive(Debug, Serialize, JsonSchema)]
struct Programs {
    programs: Vec<Listed>,
}

/// The machines of the fleet.
#[derive(Debug, Serialize, JsonSchema)]
struct Members {
    holons: Vec<fleet::Holon>,
    members: Vec<fleet::Listed>,
}

/// The layers.
#[derive(Debug, Serialize, JsonSchema)]
struct Services {
    services: Vec<Service>,
}

/// The program concerned.
#[derive(Debug, Serialize, JsonSchema)]
struct Done {
    name: String,
}

/// A program to run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// The program, an absolute path or a name on the node's `PATH`, and its words.
    words: Vec<String>,
    /// What to call it; found by the node if absent.
    name: Option<String>,
    /// Added to its environment.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// Folders of the host that it may read and write, each as `PATH` or `PATH:GUEST`, absolute.
    #[serde(default)]
    folders: Vec<String>,
    /// What it may use.
    #[serde(default)]
    limits: Option<Limits>,
    /// Whether it is in a network of its own, in which there is nothing but itself, or in the host's.
    #[serde(default)]
    network: Network,
    /// Ports of the host that lead to its own.
    #[serde(default)]
    ports: Vec<Port>,
    /// How to find out whether it is well.
    health: Option<Health>,
    /// Let a capsule run the same way for the same seed, with a time of its own.
    seed: Option<u64>,
    /// When it is started again; never if absent.
    restart: Option<Restart>,
}

/// A program that the fleet is to run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SharedWish {
    /// The program.
    program: Wish,
    /// How many of it.
    replicas: u32,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Following {
    /// Go on as more is said, until it has ended for good.
    #[serde(default)]
    follow: bool,
    /// Begin at this position, counted from the first byte ever said.
    #[serde(default)]
    from: u64,
}

/// The names in a path. One that is no text is refused as everything is.
struct Names<T>(T);

impl<T, S> FromRequestParts<S> for Names<T>
where
    T: serde::de::DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, Response> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(names)) => Ok(Self(names)),
            Err(rejection) => Err(refused(rejection.status(), rejection.body_text())),
        }
    }
}

/// Asks the node, whose answer may take as long as a program takes to end.
async fn ask(shared: &Shared, request: Request) -> Result<Answer, Response> {
    let node = Arc::clone(&shared.node);
    let answer = tokio::task::spawn_blocking(move || node.ask(request)).await;
    match answer {
        Ok(Answer::Refused { because }) => Err(refused(StatusCode::CONFLICT, because)),
        Ok(answer) => Ok(answer),
        Err(_) => Err(refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "the node is ending",
        )),
    }
}

fn other() -> Response {
    refused(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the node answered something else than was asked",
    )
}

async fn status(State(shared): App) -> Response {
    match ask(&shared, Request::Status).await {
        Ok(Answer::Status(status)) => Json(status).into_response(),
        Ok(_) => other(),
        Err(refused) => refused,
    }
}

async fn programs(State(shared): App) -> Response {
    match ask(&shared, Request::List).await {
        Ok(Answer::List { programs }) => Json(Programs { programs }).into_response(),
        Ok(_) => other(),
        Err(refused) => refused,
    }
}

async fn members(State(shared): App) -> Response {
    match ask(&shared, Request::Members).await {
        Ok(Answer::Members { members, holons }) => {
            Json(Members { holons, members }).into_response()
        }
        Ok(_) => other(),
        Err(refused) => refused,
    }
}

async fn why_program(State(shared): App, Names(name): Names<String>) -> Response {
    match shared.node.knows(&name) {
        true => why(&shared, Request::Why { name: Some(name) }).await,
        false => unknown(&name),
    }
}

async fn why_member(State(shared): App, Names(name): Names<String>) -> Response {
    match is_member(&shared, &name).await {
        Ok(()) => why(&shared, Request::WhyMember { name }).await,
        Err(refused) => refused,
    }
}

async fn why_there(
    State(shared): App,
    Names((member, program)): Names<(String, String)>,
) -> Response {
    let request = Box::new(Request::Why {
        name: Some(program),
    });
    match is_member(&shared, &member).await {
        Ok(()) => why(&shared, Request::On { member, request }).await,
        Err(refused) => refused,
    }
}

/// Whether there is such a machine, or what to say.
async fn is_member(shared: &Shared, name: &str) -> Result<(), Response> {
    match ask(shared, Request::Members).await? {
        Answer::Members { members, .. } if members.iter().any(|known| known.name == name) => Ok(()),
        Answer::Members { .. } => {
            let because = format!("there is no machine named {name:?}");
            Err(refused(StatusCode::NOT_FOUND, because))
        }
        _ => Err(other()),
    }
}

async fn why_machine(State(shared): App) -> Response {
    why(&shared, Request::Why { name: None }).await
}

async fn why(shared: &Shared, request: Request) -> Response {
    match ask(shared, request).await {
        Ok(Answer::Why(why)) => Json(why).into_response(),
        Ok(_) => other(),
        Err(refused) => refused,
    }
}

async fn services(State(shared): App) -> Response {
    match ask(&shared, Request::Services).await {
        Ok(Answer::Services { services }) => Json(Services { services }).into_response(),
        Ok(_) => other(),
        Err(refused) => refused,
    }
}

fn unknown(name: &str) -> Response {
    let because = format!("there is no program named {name:?}");
    refused(StatusCode::NOT_FOUND, because)
}

async fn run(State(shared): App, wish: Result<Json<Wish>, JsonRejection>) -> Response {
    let wish = match wish {
        Ok(Json(wish)) => wish,
        Err(rejection) => return refused(rejection.status(), rejection.body_text()),
    };
    let (name, restart) = (wish.name.clone(), wish.restart.unwrap_or(Restart::Never));
    let program = match wanted(wish) {
        Ok(program) => program,
        Err(because) => return refused(StatusCode::UNPROCESSABLE_ENTITY, because),
    };
    match ask(
        &shared,
        Request::Run {
            name,
            program,
            restart,
        },
    )
    .await
    {
        Ok(Answer::Done { name }) => (StatusCode::CREATED, Json(Done { name })).into_response(),
        Ok(_) => other(),
        Err(refused) => refused,
    }
}

async fn affairs(State(shared): App) -> Response {
    match ask(&shared, Request::Affairs).await {
        Ok(Answer::Affairs(affairs)) => Json(affairs).into_response(),
        Ok(_) => other(),
        Err(refused) => refused,
    }
}

async fn give(State(shared): App, wish: Result<Json<SharedWish>, JsonRejection>) -> Response {
    let SharedWish { program, replicas } = match wish {
        Ok(Json(wish)) => wish,
        Err(rejection) => return refused(rejection.status(), rejection.body_text()),
    };
    let (name, restart) = (
        program.name.clone(),
        program.restart.unwrap_or(Restart::Never),
    );
    let program = match wanted(program) {
        Ok(program) => program,
        Err(because) => return refused(StatusCode::UNPROCESSABLE_ENTITY, because),
    };
    let give = Request::Give {
        name,
        program,
        restart,
        replicas,
    };
    match ask(&shared, give).await {
        Ok(Answer::Done { name }) => (StatusCode::CREATED, Json(Done { name })).into_response(),
        Ok(_) => other(),
        Err(refused) => refused,
    }
}

async fn stop_shared(State(shared): App, Names(name): Names<String>) -> Response {
    let request = Request::StopShared { name: name.clone() };
    named_shared(&shared, &name, request).await
}

async fn why_shared(State(shared): App, Names(name): Names<String>) -> Response {
    let known = |affairs: &Affairs| {
        let (program, _) = reasons::parts(&name);
        affairs.programs.iter().any(|known| known.name == program)
    };
    match ask(&shared, Request::Affairs).await {
        Ok(Answer::Affairs(affairs)) if known(&affairs) => {
            why(&shared, Request::WhyShared { name }).await
        }
        Ok(Answer::Affairs(_)) => unknown(&name),
        Ok(_) => other(),
        Err(refused) => refused,
    }
}

async fn remove_shared(State(shared): App, Names(name): Names<String>) -> Response {
    let request = Request::RemoveShared { name: name.clone() };
    named_shared(&shared, &name, request).await
}

/// The program of a wish, as it can be run here.
fn wanted(wish: Wish) -> Result<Program, String> {
    let (word, arguments) = wish
        .words
        .split_first()
        .ok_or("words: found none, expected at least the program's")?;
    if word.contains('/') && !word.starts_with('/') {
        return Err(format!(
            "words: found the relative path {word:?}, expected an absolute one or a name on PATH"
        ));
    }
    let path = program::find(word, std::env::var("PATH").ok().as_deref())
        .map_err(|error| error.to_string())?;
    let mut folders = Vec::new();
    for text in &wish.folders {
        if !text.starts_with('/') {
            return Err(format!(
                "folders: found the relative path {text:?}, expected an absolute one"
            ));
        }
        let folder = Folder::read(text, std::path::Path::new("/"));
        folders.push(folder.map_err(|error| format!("folders: {text}: {error}"))?);
    }
    let native = program::kind(&path).map_err(|error| error.to_string())? == program::Kind::Native;
    let own = wish.environment.into_iter();
    let environment = match native {
        true => program::inherited().chain(own).collect(),
        false => own.collect(),
    };
    Ok(Program {
        path,
        name: word.clone(),
        arguments: arguments.to_vec(),
        environment,
        directory: PathBuf::from("/"),
        folders,
        limits: wish.limits.unwrap_or_default(),
        network: wish.network,
        ports: wish.ports,
        health: wish.health,
        seed: wish.seed,
        devices: Vec::new(),
    })
}

async fn named(shared: &Shared, name: String, request: Request) -> Response {
    if !shared.node.knows(&name) {
        return unknown(&name);
    }
    done(shared, request).await
}

/// The same of a program of the fleet: who asks by a name it does not have is told so as on other paths.
async fn named_shared(shared: &Shared, name: &str, request: Request) -> Response {
    match ask(shared, Request::Affairs).await {
        Ok(Answer::Affairs(affairs)) if affairs.programs.iter().any(|known| known.name == name) => {
            done(shared, request).await
        }
        Ok(Answer::Affairs(_)) => unknown(name),
        Ok(_) => other(),
        Err(refused) => refused,
    }
}

async fn done(shared: &Shared, request: Request) -> Response {
    match ask(shared, request).await {
        Ok(Answer::Done { name }) => Json(Done { name }).into_response(),
        Ok(_) => other(),
        Err(refused) => refused,
    }
}

async fn stop(State(shared): App, Names(name): Names<String>) -> Response {
    let request = Request::Stop { name: name.clone() };
    named(&shared, name, request).await
}

async fn remove(State(shared): App, Names(name): Names<String>) -> Response {
    let request = Request::Remove { name: name.clone() };
    named(&shared, name, request).await
}

async fn logs(
    State(shared): App,
    Names(name): Names<String>,
    asked: Result<Query<Following>, QueryRejection>,
) -> Response {
    const PIECE_MAX: usize = 64 << 10;
    let Query(asked) = match asked {
        Ok(asked) => asked,
        Err(rejection) => return refused(rejection.status(), rejection.body_text()),
    };
    let Some(journal) = shared.node.journal(&name) else {
        return unknown(&name);
    };
    let place = asked.follow.then(|| shared.streams.take());
    let until = tokio::time::Instant::now() + STREAM_LASTS;
    let pieces = stream::unfold(Some((journal, asked.from, place)), move |at| async move {
        let (journal, from, mut place) = at?;
        if place.as_mut().is_some_and(Place::is_lost) {
            return None;
        }
        let reading = tokio::task::spawn_blocking(move || {
            let mut piece = journal.read(from, PIECE_MAX);
            while asked.follow
                && tokio::time::Instant::now() < until
                && !place.as_mut().is_some_and(Place::is_lost)
                && matches!(&piece, Ok(piece) if piece.bytes.is_empty())
            {
                if !journal.wait(from, Duration::from_secs(1)) {
                    break;
                }
                piece = journal.read(from, PIECE_MAX);
            }
            (piece, journal, place)
        });
        let (piece, journal, place) = reading.await.ok()?;
        match piece {
            Ok(piece) if piece.bytes.is_empty() => None,
            Ok(piece) => Some((
                Ok(Bytes::from(piece.bytes)),
                Some((journal, piece.next, place)),
            )),
            Err(error) => Some((Err(error), None)),
        }
    });
    ([(header::CONTENT_TYPE, TEXT)], Body::from_stream(pieces)).into_response()
}

/// The same of a program on another machine, which is asked for one piece after another.
async fn logs_there(
    State(shared): App,
    Names((member, program)): Names<(String, String)>,
    asked: Result<Query<Following>, QueryRejection>,
) -> Response {
    let Query(asked) = match asked {
        Ok(asked) => asked,
        Err(rejection) => return refused(rejection.status(), rejection.body_text()),
    };
    if let Err(refused) = is_member(&shared, &member).await {
        return refused;
    }
    let first = piece(&shared, &member, &program, asked.from).await;
    let first = match first {
        Ok(first) => first,
        Err(refused) => return refused,
    };
    let place = asked.follow.then(|| shared.streams.take());
    let until = tokio::time::Instant::now() + STREAM_LASTS;
    let from = first.next;
    let said = stream::unfold((Some(first), from, shared, place), move |at| {
        let (member, program) = (member.clone(), program.clone());
        async move {
            let (mut first, mut from, shared, mut place) = at;
            loop {
                let found = match first.take() {
                    Some(first) => first,
                    None => piece(&shared, &member, &program, from).await.ok()?,
                };
                from = found.next;
                if !found.bytes.is_empty() {
                    let bytes = Ok::<_, Infallible>(Bytes::from(found.bytes));
                    return Some((bytes, (None, from, shared, place)));
                }
                let goes_on = asked.follow
                    && found.open
                    && tokio::time::Instant::now() < until
                    && !place.as_mut().is_some_and(Place::is_lost);
                if !goes_on {
                    return None;
                }
                tokio::time::sleep(PIECE_EVERY).await;
            }
        }
    });
    ([(header::CONTENT_TYPE, TEXT)], Body::from_stream(said)).into_response()
}

/// A piece of what a program on a machine of the fleet said.
async fn piece(shared: &Shared, member: &str, program: &str, from: u64) -> Result<Piece, Response> {
    let name = program.to_owned();
    let request = Request::On {
        member: member.to_owned(),
        request: Box::new(Request::Piece { name, from }),
    };
    match ask(shared, request).await? {
        Answer::Piece(piece) => Ok(piece),
        _ => Err(other()),
    }
}

/// What a watcher has seen, and what it is to be told next.
struct Watching {
    shared: Arc<Shared>,
    sample: tokio::sync::watch::Receiver<u64>,
    program: tokio::sync::watch::Receiver<u64>,
    seen: (u64, u64),
    ready: std::collections::VecDeque<sse::Event>,
    until: tokio::time::Instant,
    place: Place,
}

async fn live(State(shared): App) -> Response {
    let place = shared.streams.take();
    let watching = Watching {
        sample: shared.live.watch(),
        program: shared.node.news().watch(),
        shared,
        seen: (0, 0),
        ready: std::collections::VecDeque::new(),
        until: tokio::time::Instant::now() + STREAM_LASTS,
        place,
    };
    let events = stream::unfold(watching, |mut watching| async move {
        loop {
            if let Some(event) = watching.ready.pop_front() {
                return Some((Ok::<_, Infallible>(event), watching));
            }
            watching.sample.mark_unchanged();
            watching.program.mark_unchanged();
            let Watching {
                shared,
                seen,
                ready,
                ..
            } = &mut watching;
            for sample in shared.live.after(seen.0) {
                seen.0 = sample.number;
                ready.extend(
                    sse::Event::default()
                        .event("sample")
                        .json_data::<&Sample>(&sample),
                );
            }
            for item in shared.node.news().after(seen.1) {
                seen.1 = item.number;
                ready.extend(
                    sse::Event::default()
                        .event("program")
                        .json_data::<&Item>(&item),
                );
            }
            if ready.is_empty() {
                tokio::select! {
                    changed = watching.sample.changed() => changed.ok()?,
                    changed = watching.program.changed() => changed.ok()?,
                    () = tokio::time::sleep_until(watching.until) => return None,
                    () = watching.place.lost() => return None,
                }
            }
        }
    });
    sse::Sse::new(events)
        .keep_alive(sse::KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response()
}

async fn healthy(State(shared): App, uri: axum::http::Uri) -> Response {
    match ask(&shared, Request::Status).await {
        Ok(Answer::Status(status)) if status.ending && uri.path() == "/readyz" => {
            refused(StatusCode::SERVICE_UNAVAILABLE, "the node is ending")
        }
        Ok(Answer::Status(_)) => ([(header::CONTENT_TYPE, TEXT)], "ok\n").into_response(),
        Ok(_) => other(),
        Err(_) => refused(StatusCode::SERVICE_UNAVAILABLE, "the node does not answer"),
    }
}

type Float = Gauge<f64, AtomicU64>;

async fn metrics(State(shared): App) -> Response {
    let mut registry = Registry::with_prefix("cosmos");
    let one = |registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>, value: f64| {
        let gauge = Float::default();
        gauge.set(value);
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, gauge),
            None => registry.register(name, help, gauge),
        }
    };
    if let Ok(Answer::Status(status)) = ask(&shared, Request::Status).await {
        one(
            &mut registry,
            "programs_running",
            "Programs that run",
            None,
            status.running as f64,
        );
        one(
            &mut registry,
            "programs_known",
            "Programs that are known",
            None,
            status.known as f64,
        );
        one(
            &mut registry,
            "up",
            "How long the node has run",
            Some(Unit::Seconds),
            status.seconds,
        );
        let known = &status.atmosphere;
        if let Some(power) = known.power {
            let watts = Family::<Vec<(String, String)>, Float>::default();
            let source = json!(power.source).as_str().unwrap_or_default().to_owned();
            let labels = vec![("source".to_owned(), source)];
            watts.get_or_create(&labels).set(power.watts);
            registry.register("power_watts", "What the processor draws", watts);
        }
        if !known.gpus.is_empty() {
            let (celsius, watts) = (
                Family::<Vec<(String, String)>, Float>::default(),
                Family::<Vec<(String, String)>, Float>::default(),
            );
            for gpu in &known.gpus {
                let labels = vec![("gpu".to_owned(), gpu.uuid.clone())];
                if let Some(value) = gpu.celsius {
                    celsius.get_or_create(&labels).set(value);
                }
                if let Some(value) = gpu.watts {
                    watts.get_or_create(&labels).set(value);
                }
            }
            registry.register_with_unit("gpu_temperature", "Of a GPU", Unit::Celsius, celsius);
            registry.register("gpu_power_watts", "What a GPU draws", watts);
        }
    }
    if let Some(sample) = shared.live.latest() {
        one(
            &mut registry,
            "clock",
            "Share of the processor that programs are given",
            Some(Unit::Ratios),
            sample.reading.clock,
        );
        one(
            &mut registry,
            "busy",
            "Share of all cores in use",
            Some(Unit::Ratios),
            sample.reading.busy,
        );
        let temperature = Family::<Vec<(String, String)>, Float>::default();
        let source = json!(sample.reading.temperature.source)
            .as_str()
            .unwrap_or_default()
            .to_owned();
        temperature
            .get_or_create(&vec![("source".into(), source)])
            .set(sample.reading.temperature.celsius);
        registry.register_with_unit(
            "temperature",
            "Of the processor",
            Unit::Celsius,
            temperature,
        );
        one(
            &mut registry,
            "memory_used",
            "Of the machine",
            Some(Unit::Bytes),
            sample.memory_used_bytes as f64,
        );
        one(
            &mut registry,
            "node_memory",
            "Of the node itself",
            Some(Unit::Bytes),
            sample.node.memory_bytes as f64,
        );
        one(
            &mut registry,
            "node_cores",
            "Processor that the node itself uses, in cores",
            None,
            sample.node.cores,
        );
        let (cores, memory) = (
            Family::<Vec<(String, String)>, Float>::default(),
            Family::<Vec<(String, String)>, Float>::default(),
        );
        for (name, used) in &sample.programs {
            let labels = vec![("program".to_owned(), name.clone())];
            cores.get_or_create(&labels).set(used.cores);
            memory.get_or_create(&labels).set(used.memory_bytes as f64);
        }
        registry.register(
            "program_cores",
            "Processor that a program uses, in cores",
            cores,
        );
        registry.register_with_unit(
            "program_memory",
            "Resident memory of a program",
            Unit::Bytes,
            memory,
        );
    }
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(_) => other(),
    }
}

async fn openapi() -> Json<Value> {
    Json(document())
}

/// The OpenAPI 3.1 document of [`routes`].
fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut schemas = settings.into_generator();
    let error = schemas.subschema_for::<Refused>().to_value();
    let mut paths = serde_json::Map::new();
    for route in routes() {
        let mut parameters = Vec::new();
        for part in route.path.split('/') {
            if let Some(name) = part
                .strip_prefix('{')
                .and_then(|part| part.strip_suffix('}'))
            {
                parameters.push(json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
            }
        }
        if let Some(Value::Object(_)) = (route.query)(&mut schemas) {
            let asked = schemars::schema_for!(Following).to_value();
            for (name, schema) in asked["properties"].as_object().into_iter().flatten() {
                parameters.push(json!({"name": name, "in": "query", "schema": schema}));
            }
        }
        let content = match (route.answers)(&mut schemas) {
            Some(schema) => json!({ route.kind: {"schema": schema} }),
            None => json!({ route.kind: {} }),
        };
        let mut id = format!("{}-", route.method);
        for part in route.path.split('/').filter(|part| !part.is_empty()) {
            let _ = write!(id, "{}", part.trim_matches(['{', '}']));
        }
        let mut operation = json!({
            "operationId": id,
            "summary": route.summary,
            "parameters": parameters,
            "responses": {
                route.status.to_string(): {"description": "Done.", "content": content},
                "default": {"description": "Refused.", "content": {JSON: {"schema": error}}},
            },
        });
        if let Some(schema) = (route.asks)(&mut schemas) {
            operation["requestBody"] =
                json!({"required": true, "content": {JSON: {"schema": schema}}});
        }
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        methods[route.method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "cosmOS node", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "The node's key; `cosmos dashboard` prints it."}},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document = document();
        let mut references = 0;
        let mut left = vec![&document];
        while let Some(value) = left.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(to)) = fields.get("$ref") {
                        references += 1;
                        let pointer = to.strip_prefix('#').expect("within the document");
                        assert!(document.pointer(pointer).is_some(), "{to}");
                    }
                    left.extend(fields.values());
                }
                Value::Array(values) => left.extend(values),
                _ => {}
            }
        }
        assert!(references > 10, "{references}");
        let post = &document["paths"]["/api/v1/programs"]["post"];
        assert!(post["requestBody"].is_object() && post["responses"]["201"].is_object());
        let parameters =
            document["paths"]["/api/v1/programs/{name}/logs"]["get"]["parameters"].as_array();
        assert_eq!(parameters.map(Vec::len), Some(3));
    }

    #[test]
    fn a_wish_is_refused_for_what_is_wrong_with_it() {
        let refused = |text: &str| match serde_json::from_str::<Wish>(text) {
            Ok(wish) => wanted(wish).unwrap_err(),
            Err(error) => error.to_string(),
        };
        assert!(refused(r#"{"words": []}"#).contains("found none"));
        assert!(refused(r#"{"words": ["./x"]}"#).contains("relative path"));
        assert!(refused(r#"{"words": ["no-such-program"]}"#).contains("no program"));
        assert!(
            refused(r#"{"words": ["sh"], "folders": ["/no/such"]}"#).contains("folders: /no/such")
        );
        assert!(refused(r#"{"words": ["sh"], "surprise": 1}"#).contains("unknown field"));
        assert!(refused("{}").contains("missing field `words`"));
    }
}
