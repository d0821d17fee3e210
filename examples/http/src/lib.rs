//! Answers HTTP: a greeting, what it was sent, and, to see what happens then, no answer at all.
//!
//! ```sh
//! cosmos run --port 8080:80 http.wasm
//! curl http://127.0.0.1:8080/Ada               # Hello, Ada!
//! curl -d 'some words' 127.0.0.1:8080/reverse  # what was sent, backwards
//! ```
//!
//! `/count` says how many requests this instance has answered: always one, since each has an instance of its own.
//! `/trap`, `/forever`, `/hungry` and `/mute` end badly, each in its own way.

use std::sync::atomic::{AtomicU32, Ordering};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

struct Http;

wasip2::http::proxy::export!(Http);

static ANSWERED: AtomicU32 = AtomicU32::new(0);

impl Guest for Http {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let said = match path.trim_start_matches('/') {
            "" => b"Hello, world!\n".to_vec(),
            "count" => format!("{}\n", ANSWERED.fetch_add(1, Ordering::Relaxed) + 1).into_bytes(),
            "reverse" => match body(request) {
                Ok(mut body) => {
                    body.reverse();
                    body
                }
                Err(because) => return say(answer, 400, because.as_bytes()),
            },
            "trap" => panic!("as it was asked to"),
            "forever" => loop {
                std::hint::spin_loop();
            },
            "hungry" => {
                let mut eaten = Vec::new();
                loop {
                    eaten.push(vec![1_u8; 1 << 20]);
                }
            }
            "mute" => return,
            name => format!("Hello, {name}!\n").into_bytes(),
        };
        say(answer, 200, &said);
    }
}

fn body(request: IncomingRequest) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    let body = request.consume().expect("it is consumed once");
    let stream = body.stream().expect("it is streamed once");
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(piece) => all.extend(piece),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
    drop(stream);
    IncomingBody::finish(body);
    Ok(all)
}

fn say(answer: ResponseOutparam, status: u16, said: &[u8]) {
    let headers = Fields::new();
    let plain = b"text/plain; charset=utf-8".to_vec();
    headers
        .append("content-type", &plain)
        .expect("it is a header");
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("it is a status");
    let body = response.body().expect("it is taken once");
    ResponseOutparam::set(answer, Ok(response));
    let stream = body.write().expect("it is written once");
    for piece in said.chunks(4096) {
        // Who asked may be gone.
        if stream.blocking_write_and_flush(piece).is_err() {
            return;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
