#![no_main]

use daemon::control::{Answer, Request, VERSION, receive, send};
use daemon::program::Kind;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What was understood can be said again and is understood as the same.
fn is_said_again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    frame: &[u8],
) -> Option<T> {
    let said: T = receive(&mut &frame[..]).ok()?;
    let mut again = Vec::new();
    send(&mut again, &said).expect("what came in a frame fits into one");
    assert_eq!(receive::<T>(&mut &again[..]).ok().as_ref(), Some(&said));
    Some(said)
}

/// Every program that is asked for is looked at as a node looks at it.
fn look(request: &Request) {
    match request {
        Request::Run { program, .. } | Request::Give { program, .. } => {
            for kind in [Kind::Native, Kind::Module, Kind::Component] {
                let _ = program.check(kind);
            }
            let _ = (program.length(), program.gpus());
        }
        Request::RunAll { programs } => programs.iter().for_each(|wanted| {
            look(&Request::Run {
                name: wanted.name.clone(),
                program: wanted.program.clone(),
                restart: wanted.restart,
            });
        }),
        Request::On { request, .. } => look(request),
        _ => {}
    }
}

// Whatever is written into a control socket is a request, or is refused; and what a node answers is read as carefully.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let framed = [&[VERSION][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat();
    for frame in [bytes, &framed] {
        if let Some(request) = is_said_again::<Request>(frame) {
            look(&request);
        }
        is_said_again::<Answer>(frame);
    }
});
