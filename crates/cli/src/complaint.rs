//! How what is wrong is said: in colour to a person, as JSON to a program.

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use twin::universe::{Place, Problem, Problems};

/// Says it on standard error, with `json` too: what is on standard output is a result.
pub(crate) fn print(error: &anyhow::Error, json: bool) {
    if json {
        anstream::eprintln!("{:#}", as_json(error));
        return;
    }
    let red = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
    match error.downcast_ref::<Problems>() {
        Some(problems) => {
            let s = if problems.0.len() == 1 { "" } else { "s" };
            let count = problems.0.len();
            anstream::eprint!("{problems}{red}error{red:#}: {count} problem{s}, nothing was run\n");
        }
        None => anstream::eprintln!("{red}error{red:#}: {}", in_one_line(error)),
    }
}

/// The error and its causes, each once: some name their cause themselves.
fn in_one_line(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| {
        let cause = cause.to_string();
        if said.is_empty() {
            cause
        } else if said.contains(&cause) {
            said
        } else {
            format!("{said}: {cause}")
        }
    })
}

fn as_json(error: &anyhow::Error) -> Value {
    match error.downcast_ref::<Problems>() {
        Some(problems) => {
            let each: Vec<_> = problems.0.iter().map(problem_as_json).collect();
            json!({ "error": "the file has problems, nothing was run", "problems": each })
        }
        None => json!({ "error": in_one_line(error) }),
    }
}

fn problem_as_json(problem: &Problem) -> Value {
    let (key, message) = (&problem.key, problem.fault.to_string());
    match &problem.place {
        Place::Line {
            file, line, column, ..
        } => {
            json!({ "file": file, "line": line, "column": column, "key": key, "message": message })
        }
        Place::File { file } => json!({ "file": file, "key": key, "message": message }),
        Place::Flag { text } => json!({ "flag": text, "key": key, "message": message }),
    }
}
