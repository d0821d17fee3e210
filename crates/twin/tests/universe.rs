//! The reader of universe files through its public face: every way a file or a
//! `--set` can be wrong, with the exact words.

use std::fmt::Debug;

use proptest::prelude::*;
use twin::universe::{Bytes, Document, Override, PerSecond, Reference, Table};
use wire::{Kelvin, Nanos};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Shells,
    Site,
}

#[derive(Clone, Debug, PartialEq)]
struct Shell {
    limit: Kelvin,
    tiles: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct World {
    kind: Kind,
    end: Nanos,
    intent: String,
    enabled: bool,
    gain: PerSecond,
    margin: Option<Kelvin>,
    loss: f64,
    alarms: Vec<Kelvin>,
    shells: Vec<Shell>,
    images: Vec<(String, Bytes)>,
}

/// Has one of everything.
fn world(root: &Table<'_>) -> World {
    let kinds = [("shells", Kind::Shells), ("site", Kind::Site)];
    let time = root.table("time", "How long.");
    let thermos = root.table("thermos", "The regulator.");
    let kind = root.choice("kind", &kinds, "What it is.").or(Kind::Shells);
    let world = World {
        kind,
        intent: root.text("intent", "What it is for.").required(),
        end: time
            .time("end", "When it stops.")
            .range(Nanos::SECOND..=Nanos::DAY * 3650)
            .required(),
        enabled: thermos.flag("enabled", "Whether it regulates.").or(true),
        gain: thermos
            .rate("gain", "How hard.")
            .positive()
            .or(PerSecond(0.5 / 3600.0)),
        margin: thermos
            .temperature_difference("margin", "How early; never if not set.")
            .optional(),
        loss: root
            .fraction("loss", "Messages lost.")
            .range(0.0..=1.0)
            .or(0.0),
        alarms: thermos
            .temperature("alarms", "When to warn.")
            .range(Kelvin(200.0)..=Kelvin(500.0))
            .list(0..=3),
        shells: root
            .tables("shell", 0..=8, "What flies.")
            .iter()
            .map(|shell| Shell {
                limit: shell
                    .temperature("limit", "Above it a machine breaks.")
                    .range(Kelvin(200.0)..=Kelvin(500.0))
                    .required(),
                tiles: shell
                    .count("tiles", "How many.")
                    .range(1..=10_000_000)
                    .or(1000),
            })
            .collect(),
        images: root
            .named_tables("image", "What runs.")
            .into_iter()
            .map(|(name, image)| (name, image.data("size", "How large.").required()))
            .collect(),
    };
    if kind == Kind::Site {
        let _ = root.text("address", "Where the site is.").required();
    }
    if world.end < Nanos::MINUTE && world.loss > 0.5 {
        root.refuse("loss", "nothing would arrive before `time.end`");
    }
    world
}

const GOOD: &str = r#"
intent = "Show a shell."
loss = "1 %"

[time]
end = "10 d"

[thermos]
gain = "0.1 /h"
margin = "5 K"
alarms = ["350 K", "80 °C"]

[[shell]]
limit = "350 K"

[[shell]]
limit = "80 °C"
tiles = 20

[image.solver]
size = "64 MiB"
"#;

fn overrides(flags: &[&str]) -> Vec<Override> {
    let parse = |flag: &&str| flag.parse().expect("a setting");
    flags.iter().map(parse).collect()
}

fn read(text: &str, flags: &[&str]) -> World {
    let document = Document::parse("x.toml", text, &overrides(flags));
    let world = document.and_then(|document| document.read(world));
    world.unwrap_or_else(|problems| panic!("{problems}"))
}

#[track_caller]
fn check(text: &str, flags: &[&str], says: &str) {
    check_with(text, flags, world, says);
}

#[track_caller]
fn check_with<T: Debug>(text: &str, flags: &[&str], schema: impl Fn(&Table<'_>) -> T, says: &str) {
    let problems = Document::parse("x.toml", text, &overrides(flags))
        .and_then(|document| document.read(schema))
        .expect_err("something is wrong here")
        .to_string();
    assert_eq!(
        problems, says,
        "\n--- found ---\n{problems}--- expected ---\n{says}"
    );
}

/// A file that is right but for these lines at its top.
#[track_caller]
fn check_line(line: &str, says: &str) {
    let rest = "intent = \"x\"\ntime.end = \"1 d\"\n";
    let key = line.split('.').next().unwrap_or_default().trim();
    let rest: Vec<_> = rest.lines().filter(|rest| !rest.starts_with(key)).collect();
    check(&format!("{line}\n{}", rest.join("\n")), &[], says);
}

#[test]
fn a_good_file_is_read_as_written() {
    let world = read(GOOD, &[]);
    assert_eq!(
        world,
        World {
            kind: Kind::Shells,
            end: Nanos::DAY * 10,
            intent: "Show a shell.".to_owned(),
            enabled: true,
            gain: PerSecond(0.1 / 3600.0),
            margin: Some(Kelvin(5.0)),
            loss: 0.01,
            alarms: vec![Kelvin(350.0), Kelvin::from_celsius(80.0)],
            shells: vec![
                Shell {
                    limit: Kelvin(350.0),
                    tiles: 1000
                },
                Shell {
                    limit: Kelvin::from_celsius(80.0),
                    tiles: 20
                },
            ],
            images: vec![("solver".to_owned(), Bytes(64 << 20))],
        }
    );
}

#[test]
fn a_flag_replaces_and_adds_and_the_later_one_holds() {
    let world = read(
        GOOD,
        &[
            "thermos.enabled=false",
            "time.end=3d",
            "time.end = 2d",
            "shell.1.limit=360K",
            "thermos.alarms.0=\"300 K\"",
            "image.viewer.size=1 GB",
            "loss=0.5",
            "shell.0={limit = \"77 °C\", tiles = 7}",
        ],
    );
    assert!(!world.enabled);
    assert_eq!(world.end, Nanos::DAY * 2);
    assert_eq!(world.shells[1].limit, Kelvin(360.0));
    assert_eq!(world.shells[0].tiles, 7);
    assert_eq!(world.alarms[0], Kelvin(300.0));
    assert_eq!(world.images[1], ("viewer".to_owned(), Bytes(1_000_000_000)));
    assert_eq!(world.loss, 0.5);
}

#[test]
fn a_wrong_or_missing_unit_says_which_are_accepted() {
    check_line(
        "thermos.gain = \"3 K\"",
        r#"x.toml:1: thermos.gain: found "3 K", expected a rate per time, such as "0.1 /h"; units: /s, Hz, /min, /h, /d, /year, %/s, %/min, %/h, %/d, %/year
1 | thermos.gain = "3 K"
  |                ^^^^^
"#,
    );
    check_line(
        "time.end = 90",
        r#"x.toml:1: time.end: found 90, expected a time, such as "90 s"; units: ns, µs, us, ms, s, min, h, d, year
1 | time.end = 90
  |            ^^
"#,
    );
    check_line(
        "thermos.margin = \"5 °C\"",
        r#"x.toml:1: thermos.margin: found "5 °C", expected a temperature difference, such as "5 K"; units: K
1 | thermos.margin = "5 °C"
  |                  ^^^^^^
"#,
    );
}

#[test]
fn a_value_out_of_range_says_the_range() {
    check_line(
        "time.end = \"0.5 s\"",
        r#"x.toml:1: time.end: found "0.5 s", expected a time from 1 s to 3650 d
1 | time.end = "0.5 s"
  |            ^^^^^^^
"#,
    );
    check_line(
        "thermos.gain = \"0 /h\"",
        r#"x.toml:1: thermos.gain: found "0 /h", expected a rate per time above 0 /s
1 | thermos.gain = "0 /h"
  |                ^^^^^^
"#,
    );
    check_line(
        "loss = \"150 %\"",
        r#"x.toml:1: loss: found "150 %", expected a fraction from 0 to 1
1 | loss = "150 %"
  |        ^^^^^^^
"#,
    );
    check_line(
        "shell = [{limit = \"-1 K\", tiles = -3}]",
        r#"x.toml:1: shell.0.limit: found "-1 K", expected a temperature from 200 K to 500 K
1 | shell = [{limit = "-1 K", tiles = -3}]
  |                   ^^^^^^
x.toml:1: shell.0.tiles: found -3, expected a whole number from 1 to 10000000
1 | shell = [{limit = "-1 K", tiles = -3}]
  |                                   ^^
"#,
    );
    check_line(
        "image.a.size = \"1e40 B\"",
        r#"x.toml:1: image.a.size: found "1e40 B", expected an amount of data of at most 18446744073709551615 B
1 | image.a.size = "1e40 B"
  |                ^^^^^^^^
"#,
    );
}

#[test]
fn another_kind_of_value_is_named() {
    for (line, found, expected) in [
        ("intent = 3", "3", "a text in quotes"),
        (
            "intent = 2026-01-01",
            "the date 2026-01-01",
            "a text in quotes",
        ),
        ("thermos.enabled = \"no\"", "\"no\"", "true or false"),
        ("thermos = 1.0", "1.0", "a table, [thermos]"),
        ("shell = {}", "a table", "up to 8 tables [[shell]]"),
        ("image.a = true", "true", "a table, [image.NAME]"),
        (
            "thermos.alarms = \"350 K\"",
            "\"350 K\"",
            "a list of up to 3 values, each a temperature from 200 K to 500 K, such as \"350 K\"",
        ),
        (
            "thermos.alarms = [\"1 K\", \"2 K\", \"3 K\", \"4 K\"]",
            "a list of 4 values",
            "a list of up to 3 values",
        ),
        (
            "kind = \"shell\"",
            "\"shell\"",
            "one of \"shells\", \"site\"; did you mean \"shells\"?",
        ),
        ("kind = 7", "7", "one of \"shells\", \"site\""),
        (
            "shell = [{limit = \"300 K\", tiles = 1.5}]",
            "1.5",
            "a whole number, such as 1000",
        ),
        (
            "shell = [{limit = \"300 K\", tiles = \"5\"}]",
            "\"5\"",
            "a whole number, such as 1000",
        ),
        (
            "loss = nan",
            "NaN",
            "a fraction, such as 0.01 or \"1 %\"; units: %, ppm, ppb",
        ),
    ] {
        let rest = "intent = \"x\"\ntime.end = \"1 d\"\n".replace(
            if line.starts_with("intent") {
                "intent = \"x\"\n"
            } else {
                "\u{0}"
            },
            "",
        );
        let problems = Document::parse("x.toml", &format!("{line}\n{rest}"), &[])
            .and_then(|document| document.read(world))
            .expect_err(line)
            .to_string();
        let says = format!("found {found}, expected {expected}");
        assert!(problems.starts_with("x.toml:1: "), "{problems}");
        assert!(problems.contains(&says), "{problems}");
    }
}

#[test]
fn what_is_missing_is_said_once_and_where_its_table_is() {
    check(
        "kind = \"site\"\n[[shell]]\ntiles = 3\n",
        &[],
        r#"x.toml:2: shell.0.limit: missing, expected a temperature from 200 K to 500 K, such as "350 K"
2 | [[shell]]
  | ^^^^^^^^^
x.toml: intent: missing, expected a text in quotes
x.toml: time.end: missing, expected a time from 1 s to 3650 d, such as "90 s"
x.toml: address: missing, expected a text in quotes
"#,
    );
}

#[test]
fn every_unknown_key_is_found_with_the_nearest_that_exists() {
    check(
        "intnet = \"x\"\n[time]\nend = \"1 d\"\nbegin = \"0 s\"\n[[shell]]\nlimit = \"300 K\"\n\ttils = 3\n[thermo]\ngain = 1\n",
        &[],
        "x.toml:1: intnet: unknown key; did you mean `intent`?
1 | intnet = \"x\"
  | ^^^^^^
x.toml:4: time.begin: unknown key; known here: `end`
4 | begin = \"0 s\"
  | ^^^^^
x.toml:7: shell.0.tils: unknown key; did you mean `tiles`?
7 | \ttils = 3
  | \t^^^^
x.toml:8: thermo: unknown key; did you mean `thermos`?
8 | [thermo]
  |  ^^^^^^
x.toml: intent: missing, expected a text in quotes
",
    );
}

#[test]
fn a_wrong_flag_is_named_with_the_nearest_key() {
    check(
        GOOD,
        &[
            "thermo.enable=false",
            "shell.2.limit=350K",
            "time.end.x=1",
            "time.end=2 K",
            "thermos.gain=3W",
            "nothing.like.it=1",
        ],
        r#"--set shell.2.limit=350K: leads nowhere: `shell` has 2 entries, shell.0 to shell.1
--set time.end.x=1: leads nowhere: `time.end` is "10 d", not a table
--set time.end=2 K: found "2 K", expected a time, such as "90 s"; units: ns, µs, us, ms, s, min, h, d, year
--set thermos.gain=3W: found "3W", expected a rate per time, such as "0.1 /h"; units: /s, Hz, /min, /h, /d, /year, %/s, %/min, %/h, %/d, %/year
--set thermo.enable=false: unknown key; did you mean `thermos.enabled`?
--set nothing.like.it=1: unknown key; known here: `intent`, `kind`, `loss`, `image.solver.size`, `shell.0.limit`, `shell.0.tiles`, `shell.1.limit`, `shell.1.tiles`, `thermos.alarms`, `thermos.enabled`, `thermos.gain`, `thermos.margin`, …
"#,
    );
}

#[test]
fn a_schema_refuses_for_its_own_reason() {
    check(
        "intent = \"x\"\nloss = 0.75\ntime.end = \"2 s\"\n",
        &[],
        "x.toml:2: loss: found 0.75, but nothing would arrive before `time.end`\n2 | loss = 0.75\n  |        ^^^^\n",
    );
}

#[test]
fn one_mistake_is_one_problem() {
    let schema = |root: &Table<'_>| {
        // Read twice, refused on top, and with required keys below what is no table.
        let _ = root.count("tiles", "How many.").required();
        let tiles = root.count("tiles", "How many.").required();
        root.refuse("tiles", "there must be more");
        let heat = root.table("heat", "How warm.");
        let _ = heat.power("idle", "Asleep.").required();
        let _ = heat
            .table("body", "What warms.")
            .area("skin", "Its skin.")
            .required();
        heat.refuse("idle", "it must be less");
        tiles
    };
    check_with(
        "tiles = \"many\"\nheat = \"much\"\n",
        &[],
        schema,
        "x.toml:1: tiles: found \"many\", expected a whole number, such as 1000
1 | tiles = \"many\"
  |         ^^^^^^
x.toml:2: heat: found \"much\", expected a table, [heat]
2 | heat = \"much\"
  |        ^^^^^^
",
    );
}

/// What stands in for a value that cannot be read is nobody's, and no reason to find fault with
/// others; what is wrong by itself is said all the same.
#[test]
fn a_value_that_cannot_be_read_puts_no_other_in_the_wrong() {
    let schema = |root: &Table<'_>| {
        let end = (root.time("end", "When it stops."))
            .range(Nanos::SECOND..=Nanos::DAY)
            .required();
        let at = (root.time("at", "When it fails.")).up_to(end, "`end`");
        let at = at.required();
        let step = (root.time("step", "How finely.")).range(..=Nanos::HOUR);
        let step = step.or(Nanos::SECOND);
        if step * 2 > end {
            root.refuse("step", "two do not fit into `end`");
        }
        (at, step)
    };
    let text = "end = \"1 h\"\nat = \"40 min\"\nstep = \"20 min\"\n";
    check_with(
        text,
        &["end=soon"],
        schema,
        "--set end=soon: found \"soon\", expected a time, such as \"90 s\"; units: ns, µs, us, ms, s, min, h, d, year\n",
    );
    check_with(
        text,
        &["end=soon", "step=2 h"],
        schema,
        "--set end=soon: found \"soon\", expected a time, such as \"90 s\"; units: ns, µs, us, ms, s, min, h, d, year\n--set step=2 h: found \"2 h\", expected a time from 0 ns to 1 h\n",
    );
    check_with(
        text,
        &["end=30 min"],
        schema,
        "x.toml:2: at: found \"40 min\", expected a time from 0 ns to 30 min\n2 | at = \"40 min\"\n  |      ^^^^^^^^\nx.toml:3: step: found \"20 min\", but two do not fit into `end`\n3 | step = \"20 min\"\n  |        ^^^^^^^^\n",
    );
}

#[test]
fn what_is_not_toml_names_its_line() {
    check(
        "intent = \"x\n[time]\n",
        &[],
        "x.toml:1: invalid basic string, expected `\"`\n1 | intent = \"x\n  |            ^\n",
    );
    check(
        "[time]\nend = \"1 d\"\nend = \"2 d\"\n",
        &[],
        "x.toml:3: duplicate key\n3 | end = \"2 d\"\n  | ^^^\n",
    );
}

#[test]
fn a_truncated_file_never_passes_for_a_whole_one() {
    // Cut anywhere inside a value or a header, the error names that line.
    let cut = &GOOD[..GOOD.find("64 MiB").unwrap() + 3];
    let problems = Document::parse("x.toml", cut, &[]).unwrap_err().to_string();
    let line = cut.lines().count();
    assert!(
        problems.starts_with(&format!("x.toml:{line}: ")),
        "{problems}"
    );
}

#[test]
fn the_schema_writes_its_own_reference_for_every_choice() {
    let reference = Reference::of(world).to_string();
    for entry in [
        "time.end\n    When it stops.\n    a time from 1 s to 3650 d, such as \"90 s\"; required\n",
        "thermos.gain\n    How hard.\n    a rate per time above 0 /s, such as \"0.1 /h\"; default \"0.5 /h\"\n",
        "thermos.margin\n    How early; never if not set.\n    a temperature difference, such as \"5 K\"; optional\n",
        "loss\n    Messages lost.\n    a fraction from 0 to 1, such as 0.01 or \"1 %\"; default 0\n",
        "shell.N.tiles\n    How many.\n    a whole number from 1 to 10000000, such as 1000; default 1000\n",
        "image.NAME.size\n    How large.\n    an amount of data of at least 0 B, such as \"64 MiB\"; required\n",
        "kind\n    What it is.\n    one of \"shells\", \"site\"; default \"shells\"\n",
        // Only asked for when the choice falls on a site.
        "address\n    Where the site is.\n    a text in quotes; required\n",
    ] {
        assert!(
            reference.contains(entry),
            "{entry}\n--- not in ---\n{reference}"
        );
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*", flag in "[a-z.\"]{1,8}=\\PC{1,10}") {
        try_everything(&text, &flag);
    }

    #[test]
    fn no_garbled_file_panics(
        cuts in prop::collection::vec((0..GOOD.len(), 0..40_usize), 1..4),
        junk in "[\\[\\]{}=\".,'#a-z0-9\n\r\t é\u{0}-]{0,12}",
        flag in "(time|shell|thermos)(\\.[0-3]|\\.end|\\.\"é\"){0,3}=[\\[\\]{}\"a-z0-9 ]{1,5}",
    ) {
        let mut text = GOOD.to_owned();
        for (at, len) in cuts {
            let from = text.floor_char_boundary(at.min(text.len()));
            let to = text.floor_char_boundary((at + len).min(text.len())).max(from);
            text.replace_range(from..to, &junk);
        }
        try_everything(&text, &flag);
    }

    #[test]
    fn no_truncated_file_panics(len in 0..GOOD.len()) {
        try_everything(&GOOD[..GOOD.floor_char_boundary(len)], "time.end=1d");
    }
}

fn try_everything(text: &str, flag: &str) {
    let flags: Vec<Override> = flag.parse().into_iter().collect();
    let read = Document::parse("x.toml", text, &flags).and_then(|document| document.read(world));
    if let Err(problems) = read {
        assert!(!problems.to_string().is_empty());
    }
}

#[test]
fn nesting_too_deep_for_the_stack_is_an_error() {
    for text in [
        "a.".repeat(50_000) + "a = 1",
        "a = ".to_owned() + &"[".repeat(50_000),
        format!("[{}a]", "a.".repeat(50_000)),
    ] {
        assert!(Document::parse("x.toml", &text, &[]).is_err());
    }
    assert!(("a.".repeat(50_000) + "a=1").parse::<Override>().is_err());
}
