//! The command as a person or a script meets it: words, streams, exit codes.

use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder with universes, to call the command in.
fn folder(universes: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    fs::create_dir(folder.path().join("universes")).expect("a folder in it");
    for (name, text) in universes {
        fs::write(folder.path().join("universes").join(name), text).expect("a file in it");
    }
    folder
}

fn cosmos(folder: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_cosmos"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the command starts");
    let text = |bytes| String::from_utf8(bytes).expect("the command writes UTF-8");
    (
        output.status.code().expect("no signal ended it"),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn the_list_says_what_each_universe_is_for() {
    let folder = folder(&[
        ("zz-test-one.toml", "intent = \"Show one.\"\nanything = 1\n"),
        ("zz-test-two.toml", "intent = \n"),
        ("notes.txt", "not a universe"),
    ]);
    let (code, out, err) = cosmos(&folder, &["universes"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<String> = (out.lines())
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert!(lines.contains(&"zz-test-one Show one.".to_owned()), "{out}");
    let unreadable = "zz-test-two (cannot be read) universes/zz-test-two.toml:1: ";
    assert!(lines.iter().any(|l| l.starts_with(unreadable)), "{out}");
    assert!(!out.contains("notes"), "{out}");

    let (code, out, _) = cosmos(&folder, &["universes", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let one = list
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["name"] == "zz-test-one");
    let one = one.expect("the first universe");
    assert_eq!(code, 0);
    assert_eq!(one["intent"], "Show one.");
    assert_eq!(one["file"], "universes/zz-test-one.toml");
    assert!(one["problem"].is_null());
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_its_line() {
    let folder = folder(&[("torn.toml", "intent = \"x\"\n[time\nend = \"1 d\"\n")]);
    for asked in ["torn", "universes/torn.toml"] {
        let (code, out, err) = cosmos(&folder, &["twin", "run", asked]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.starts_with("universes/torn.toml:2: "), "{err}");
        assert!(err.contains("2 | [time\n"), "{err}");
        assert!(
            err.ends_with("error: 1 problem, nothing was run\n"),
            "{err}"
        );
    }
    let (code, out, err) = cosmos(&folder, &["twin", "run", "torn", "--json"]);
    let problem: serde_json::Value = serde_json::from_str(&err).expect("JSON");
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(problem["problems"][0]["line"], 2);
}

#[test]
fn a_universe_that_does_not_exist_is_refused_with_the_nearest() {
    let folder = folder(&[("zz-quiet-shell.toml", "intent = \"x\"\n")]);
    for (asked, says) in [
        (
            "zz-quite-shell",
            "error: there is no universe \"zz-quite-shell\"; did you mean \"zz-quiet-shell\"?\n",
        ),
        (
            "something-else-entirely-0123456789",
            "error: there is no universe \"something-else-entirely-0123456789\"; `cosmos universes` lists them\n",
        ),
        ("./no/such.toml", "error: there is no file ./no/such.toml\n"),
        (
            "universes/",
            "error: universes/ is a folder; expected a file that describes a universe, such as universes/NAME.toml\n",
        ),
        // A folder of that name is no universe, and hides none.
        (
            "universes",
            "error: there is no universe \"universes\"; `cosmos universes` lists them\n",
        ),
        (
            "universes/zz-quiet-shell.toml/inside.toml",
            "error: cannot read universes/zz-quiet-shell.toml/inside.toml: Not a directory (os error 20)\n",
        ),
    ] {
        let (code, out, err) = cosmos(&folder, &["twin", "run", asked]);
        assert_eq!((code, out.as_str(), err.as_str()), (2, "", says));
    }
}

/// Nothing keeps root from reading, so this asks only where it is kept.
#[cfg(unix)]
#[test]
fn a_universe_that_may_not_be_read_is_not_called_missing() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder(&[("zz-locked.toml", "intent = \"x\"\n")]);
    let file = folder.path().join("universes/zz-locked.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).expect("it is ours");
    if fs::read(&file).is_ok() {
        println!("skipped: whoever runs this may read everything");
        return;
    }
    for asked in ["universes/zz-locked.toml", "zz-locked"] {
        let (code, _, err) = cosmos(&folder, &["twin", "run", asked]);
        assert_eq!(code, 2);
        assert!(
            err.contains("cannot read universes/zz-locked.toml: Permission denied"),
            "{err}"
        );
    }
}

#[test]
fn wrong_arguments_are_refused_before_anything_is_read() {
    let folder = folder(&[]);
    for (arguments, says) in [
        (&["twin", "run"][..], "<UNIVERSE>"),
        (&["twin", "run", "x", "--threads", "0"], "1..=1024"),
        (&["twin", "run", "x", "--seed", "x"], "--seed"),
        (&["twin", "run", "x", "--set", "a"], "expected KEY=VALUE"),
        (&["twin", "run", "x", "--set", "a=[1"], "is not a value"),
        (&["twin", "sweep", "x"], "--set <KEY=FROM..TO:STEPS>"),
        (
            &["twin", "sweep", "x", "--set", "a=1..2"],
            "expected FROM..TO:STEPS",
        ),
        (
            &["twin", "sweep", "x", "--set", "a=1h..2d:3"],
            "write both in the same unit",
        ),
        (&["orbit"], "unrecognized subcommand"),
        (&[], "Usage: cosmos <COMMAND>"),
    ] {
        let (code, out, err) = cosmos(&folder, arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains(says), "{arguments:?}: {err}");
    }
}

#[test]
fn help_teaches_with_examples_and_exit_codes() {
    let folder = folder(&[]);
    let (code, out, _) = cosmos(&folder, &["--help"]);
    assert_eq!(code, 0);
    for part in [
        "Examples:",
        "Exit codes:",
        "./universes/NAME.toml",
        "twin sweep",
    ] {
        assert!(out.contains(part), "{part} not in:\n{out}");
    }
}

#[test]
fn nothing_is_coloured_that_no_terminal_shows() {
    let folder = folder(&[]);
    let (_, out, err) = cosmos(&folder, &["twin", "run", "nothing"]);
    assert!(!format!("{out}{err}").contains('\u{1b}'));
}

/// A folder with a cluster of two nodes and a list of four pods.
fn packable() -> TempDir {
    let folder = folder(&[]);
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "nodes.csv",
        "sn,cpu_milli,memory_mib,gpu,model\na,8000,65536,2,T4\nb,8000,65536,2,T4\nc,8000,65536,0,\n",
    );
    let head = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n";
    write(
        "pods_x.csv",
        &format!(
            "{head}p,1000,1024,1,500\nq,1000,1024,1,1000\nr,1000,1024,0,0\ns,9000,1024,1,500\n"
        ),
    );
    write("free.csv", &format!("{head}p,1000,1024,0,0\n"));
    write("x.seed5.names", "p\nq\nr\ns\np-tuned-0\n");
    write("wrong", "p\nz\n");
    write("y.seed5.names", "p\nq\nr\ns\n");
    write("some", "p\nq\n");
    folder
}

const PACK: [&str; 8] = [
    "twin",
    "pack",
    "--trace",
    ".",
    "--nodes",
    "nodes.csv",
    "--pods",
    "pods_x.csv",
];

#[test]
fn lists_may_be_gzipped_and_only_who_moves_has_a_budget_of_moves() {
    let folder = packable();
    let list = std::fs::read(folder.path().join("pods_x.csv")).unwrap();
    let packed = std::fs::File::create(folder.path().join("pods_z.csv.gz")).unwrap();
    let mut gz = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, &list).unwrap();
    gz.finish().unwrap();
    let words = "--seed 1 --policy cosmos,fgd --migrate 5 --json";
    let pack = |list| {
        let mut asked = PACK;
        asked[7] = list;
        let asked: Vec<&str> = asked.into_iter().chain(words.split(' ')).collect();
        let (code, out, err) = cosmos(&folder, &asked);
        assert_eq!((code, err.as_str()), (0, ""));
        serde_json::from_str::<serde_json::Value>(&out).unwrap()["experiments"].take()
    };
    let (plain, gzipped) = (pack("pods_x.csv"), pack("pods_z.csv.gz"));
    for (i, budget) in [(0, 0), (1, 5)] {
        assert_eq!(plain[i]["migrate"], budget, "{plain:#}");
        assert_eq!(plain[i]["move_p99_us"].is_null(), budget == 0);
        assert_eq!(plain[i]["curve"], gzipped[i]["curve"]);
    }
}

#[test]
fn an_order_that_may_be_of_another_list_is_doubted_and_taken() {
    let folder = packable();
    for (order, doubt) in [
        ("x.seed5.names", ""),
        ("y.seed5.names", "by its name it is for \"y\""),
        ("some", "2 of the 4 pods never come in it"),
    ] {
        let words = ["--order", order, "--policy", "bestfit", "--json"];
        let (code, out, err) = cosmos(&folder, &[&PACK[..], &words].concat());
        assert_eq!((code, out.is_empty()), (0, false), "{err}");
        let said = match doubt {
            "" => String::new(),
            doubt => format!("pack: {order}: is it an order of ./pods_x.csv? {doubt}\n"),
        };
        assert_eq!(err, said);
    }
}

#[test]
fn packing_says_what_came_of_it_in_the_keys_it_promised() {
    let folder = packable();
    let asked = |more: &[&str]| cosmos(&folder, &[&PACK[..], more].concat());
    let (code, out, err) = asked(&["--order", "x.seed5.names", "--policy", "bestfit", "--json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let result: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    for (key, value) in [
        ("policy", serde_json::json!("bestfit")),
        ("pods", serde_json::json!("pods_x.csv")),
        ("seed", serde_json::json!(5)),
        ("placed", serde_json::json!(4)),
        // `s` wants more CPU than any node has.
        ("dropped", serde_json::json!(1)),
    ] {
        assert_eq!(result[key], value, "{key}");
    }
    assert!(result["wall_seconds"].as_f64().unwrap() > 0.0);
    assert!(result["peak_rss_bytes"].as_u64().unwrap() > 0);
    // Worth 0.5, 1.5, 2 and 2.5 of 4 GPUs.
    let curve = result["curve"].as_array().unwrap();
    assert_eq!(curve[9]["arrived_percent"], 50);
    assert_eq!(curve[9]["allocated_percent"], 37.5);
    let keys: Vec<&String> = curve[9].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "allocated_percent",
            "arrived_percent",
            "fragmented_of_idle_percent"
        ]
    );

    let (code, out, _) = asked(&["--order", "x.seed5.names", "--policy", "bestfit"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("in the order of x.seed5.names, seed 5"),
        "{out}"
    );
    assert!(out.contains("4 pods placed, 1 dropped"), "{out}");
    // A line for each step of five percent, up to 60 of the 65 that arrive.
    let lines = out.lines().filter_map(|line| line.trim().split_once(" %"));
    let lines = lines.filter_map(|(percent, _)| percent.parse::<u32>().ok());
    let steps: Vec<u32> = lines.collect();
    let told = curve
        .iter()
        .map(|p| p["arrived_percent"].as_u64().unwrap() as u32);
    assert_eq!(steps, told.collect::<Vec<_>>());
    assert_eq!(steps[..3], [5, 10, 15]);

    let (code, out, _) = asked(&[
        "--seed",
        "1",
        "--policy",
        "cosmos",
        "--migrate",
        "5",
        "--json",
    ]);
    let result: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &result["migrate"]), (0, &serde_json::json!(5)));

    // A folder stands for the orders of the list, and several are compared.
    let (code, out, _) = asked(&["--order", ".", "--policy", "fgd,random", "--json"]);
    assert_eq!(code, 0);
    let several: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(several["experiments"].as_array().unwrap().len(), 2);
    assert_eq!(several["means"][1]["policy"], "fgd");
    let (code, out, _) = asked(&["--seed", "1,2", "--policy", "all"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("means of 2 experiments for each policy"),
        "{out}"
    );
    // Nobody need name our own.
    let (code, out, _) = asked(&["--seed", "1", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, found["policy"].as_str()), (0, Some("cosmos")));
}

#[test]
fn packing_refuses_what_it_cannot_pack() {
    let folder = packable();
    for (more, says) in [
        (
            &["--seed", "1", "--policy", "best"][..],
            "expected random, dotprod",
        ),
        (
            &["--order", "wrong", "--policy", "fgd"],
            "wrong:2: found \"z\"; expected the name of a pod of ./pods_x.csv",
        ),
        (
            &["--order", "none", "--policy", "fgd"],
            "cannot read none: No such file",
        ),
        (
            &[
                "--order",
                "x.seed5.names",
                "--seed",
                "1,2",
                "--policy",
                "fgd",
            ],
            "--seed: found 2 seeds beside --order",
        ),
        // A budget of moves that nobody would use.
        (
            &["--seed", "1", "--policy", "fgd", "--migrate", "5"],
            "--migrate 5: found --policy fgd, which never moves what is placed; expected cosmos among the policies",
        ),
    ] {
        let (code, out, err) = cosmos(&folder, &[&PACK[..], more].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{more:?}");
        assert!(err.contains(says), "{more:?}: {err}");
        // Whoever pipes the result into a file finds nothing half written there.
        let (code, out, err) = cosmos(&folder, &[&PACK[..], more, &["--json"]].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{more:?}");
        assert!(err.replace("\\\"", "\"").contains(says), "{more:?}: {err}");
    }
    let free = PACK.map(|word| {
        if word == "pods_x.csv" {
            "free.csv"
        } else {
            word
        }
    });
    let (code, _, err) = cosmos(&folder, &[&free[..], &["--policy", "fgd"]].concat());
    assert_eq!(code, 2);
    assert!(
        err.starts_with("error: ./free.csv: found 1 pods of which none asks for GPU"),
        "{err}"
    );
}

#[test]
fn what_a_universe_does_to_hosts_is_told_before_it_is_done() {
    let folder = folder(&[]);
    let (code, out, _) = cosmos(&folder, &["twin", "plan", "five-short"]);
    assert_eq!(code, 0);
    assert!(
        out.starts_with("5 hosts for 33")
            && out.contains("partition  4, 5")
            && out.contains("kill"),
        "{out}"
    );
    let (_, out, _) = cosmos(&folder, &["twin", "plan", "five-short", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(plan["blows"][0]["kind"], "partition");
    assert_eq!(plan["blows"][0]["hosts"], serde_json::json!([3, 4]));
    let (code, _, err) = cosmos(&folder, &["twin", "plan", "cell"]);
    assert_eq!(code, 2);
    assert!(err.contains("is no fleet"), "{err}");
    let (code, _, err) = cosmos(&folder, &["twin", "run", "cell", "--measured", "x.json"]);
    assert_eq!(code, 2);
    assert!(err.contains("is no fleet"), "{err}");
}
