//! `cosmos twin compare`.
//!
//! Runs that are on disk, over each other: what of their summaries differs, as a table and as a
//! page. Everything is read and held against everything else before the first file is written.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use twin::record::report::{comparison_page, packing_page};
use twin::record::{
    Comparison, Curve, Difference, Packing, RunDirectory, Stored, Summary, differences,
};

use crate::arguments::Compare;
use crate::run::digits;

pub(crate) fn compare(asked: &Compare) -> Result<ExitCode> {
    let (runs, curves) = read(asked)?;
    let summaries: Vec<&Summary> = runs.iter().map(|run| &run.summary).collect();
    let labels = labels(&runs);
    let differences = differences(&summaries);
    let command = command(asked);
    let directory = match &asked.out {
        Some(path) => RunDirectory::begin_at(path)?,
        None => RunDirectory::begin_as(Path::new("runs"), "comparison")?,
    };
    let page = if runs.is_empty() {
        packing_page(&Packing {
            title: "Placement policies".to_owned(),
            intent: "Work arrives and none leaves: how much of the same cluster could each policy give away?".to_owned(),
            command,
            curves,
        })
    } else {
        let with_labels = labels.iter().zip(&runs);
        comparison_page(&Comparison {
            title: title(&summaries),
            intent: summaries[0].intent.clone(),
            command,
            runs: with_labels
                .map(|(label, run)| (label.clone(), &run.summary, &run.series))
                .collect(),
            curves,
        })
    };
    let told = runs.iter().zip(&labels).map(|(run, label)| {
        json!({ "label": label, "directory": run.directory, "universe": run.summary.universe, "held": run.summary.held() })
    });
    let mut json = json!({ "runs": told.collect::<Value>(), "differences": differences });
    directory.write("report.html", &page)?;
    directory.write("comparison.json", &format!("{json:#}\n"))?;
    let report = directory.keep()?.join("report.html");
    if asked.json {
        json["report"] = json!(report);
        crate::print(&format!("{json:#}\n"))?;
    } else {
        let table = table(&labels, &differences, runs.len());
        crate::print(&format!("{table}report: {}\n", report.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Directories are runs, files what `twin pack` printed.
fn read(asked: &Compare) -> Result<(Vec<Stored>, Vec<Curve>)> {
    let (mut runs, mut curves) = (Vec::new(), Vec::new());
    for path in &asked.what {
        if path.is_file() {
            curves.extend(Curve::read(path)?);
        } else {
            runs.push(Stored::read(path)?);
        }
    }
    let most = Comparison::RUNS_MAX;
    match runs.as_slice() {
        [one] => bail!(
            "found one run, {}; expected at least two to compare",
            one.directory.display()
        ),
        all if all.len() > most => bail!(
            "found {} runs; expected at most {most}, since more lines in one chart cannot be told apart",
            all.len()
        ),
        all => {
            let other = all
                .iter()
                .find(|run| run.summary.kind != all[0].summary.kind);
            if let Some(other) = other {
                bail!(
                    "{} is of kind {}, and {} of kind {}: they have nothing in common to compare",
                    all[0].directory.display(),
                    all[0].summary.kind.name(),
                    other.directory.display(),
                    other.summary.kind.name()
                );
            }
        }
    }
    if let Some(path) = &asked.published {
        ensure!(
            !curves.is_empty(),
            "--published {}: found no curve to hold it against; expected a file of `cosmos twin pack --json`",
            path.display()
        );
        let lists: Vec<String> = curves.iter().map(|curve| curve.pods.clone()).collect();
        for mut curve in Curve::read_published(path)? {
            if let Some(list) = lists.iter().find(|list| curve.is_for(list)) {
                curve.pods.clone_from(list);
                curves.push(curve);
            }
        }
    }
    Ok((runs, curves))
}

/// What was changed, if that tells all runs apart; else the names of their directories; else
/// their paths.
fn labels(runs: &[Stored]) -> Vec<String> {
    let distinct = |labels: &Vec<String>| {
        let mut sorted = labels.clone();
        sorted.sort();
        sorted.windows(2).all(|pair| pair[0] != pair[1])
    };
    let changed = |run: &Stored| match run.summary.overrides.as_slice() {
        [] => "unchanged".to_owned(),
        overrides => overrides.join(", "),
    };
    let name = |run: &Stored| {
        let name = run.directory.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let path = |run: &Stored| run.directory.display().to_string();
    let same = runs
        .iter()
        .all(|run| run.summary.universe == runs[0].summary.universe);
    let changed: Vec<String> = runs.iter().map(changed).collect();
    let names: Vec<String> = runs.iter().map(name).collect();
    [same.then_some(changed), Some(names)]
        .into_iter()
        .flatten()
        .find(distinct)
        .unwrap_or_else(|| runs.iter().map(path).collect())
}

fn title(runs: &[&Summary]) -> String {
    let mut names: Vec<&str> = runs.iter().map(|run| run.universe.as_str()).collect();
    names.dedup();
    match names.as_slice() {
        [one] => format!("{one}: {} runs", runs.len()),
        several => several.join(", "),
    }
}

fn command(asked: &Compare) -> String {
    let mut command = "cosmos twin compare".to_owned();
    for path in &asked.what {
        command.push_str(&format!(" {}", path.display()));
    }
    if let Some(path) = &asked.published {
        command.push_str(&format!(" --published {}", path.display()));
    }
    command
}

/// A line for each difference; with two runs, how much the second is more.
fn table(labels: &[String], differences: &[Difference], runs: usize) -> String {
    if runs == 0 {
        return String::new();
    }
    if differences.is_empty() {
        return "no number of their summaries differs\n".to_owned();
    }
    let more = |d: &Difference| match d.values.as_slice() {
        [one, two] => change(one, two),
        _ => None,
    };
    let head = std::iter::once(String::new()).chain(labels.iter().cloned());
    let mut rows = vec![
        head.chain((runs == 2).then(|| "change".to_owned()))
            .collect::<Vec<_>>(),
    ];
    for d in differences {
        let mut row = vec![d.key.clone()];
        row.extend(d.values.iter().map(said));
        row.extend((runs == 2).then(|| more(d).unwrap_or_default()));
        rows.push(row);
    }
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row[1..].iter().zip(&widths[1..]) {
            line.push_str(&format!("  {cell:>width$}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn said(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        value => match (value.as_u64(), value.as_f64()) {
            (Some(whole), _) => whole.to_string(),
            (None, Some(number)) => digits(number),
            _ => value.to_string(),
        },
    }
}

/// In percent of the first, where that says something.
fn change(one: &Value, two: &Value) -> Option<String> {
    let (one, two) = (one.as_f64()?, two.as_f64()?);
    let percent = (two / one - 1.0) * 100.0;
    (one > 0.0 && two >= 0.0 && percent.is_finite()).then(|| format!("{percent:+.1} %"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn stored(directory: &str, universe: &str, overrides: &[&str]) -> Stored {
        Stored {
            directory: PathBuf::from(directory),
            summary: Summary {
                universe: universe.to_owned(),
                overrides: overrides.iter().map(|&o| o.to_owned()).collect(),
                ..Summary::default()
            },
            series: Default::default(),
        }
    }

    #[test]
    fn runs_are_called_by_what_tells_them_apart() {
        let with = stored("runs/a", "site", &[]);
        let without = stored("runs/b", "site", &["heat=false"]);
        let again = stored("more/a", "site", &[]);
        let other = stored("runs/c", "cell", &["x=1"]);
        for (runs, expected) in [
            (vec![with.clone(), without], vec!["unchanged", "heat=false"]),
            (vec![with.clone(), other], vec!["a", "c"]),
            (vec![with, again], vec!["runs/a", "more/a"]),
        ] {
            assert_eq!(labels(&runs), expected);
        }
    }

    #[test]
    fn a_table_lines_up_and_tells_how_much_more() {
        let difference = |key: &str, values: &[Value]| Difference {
            key: key.to_owned(),
            values: values.to_vec(),
            host: false,
        };
        let labels = ["a".to_owned(), "bb".to_owned()];
        let all = [
            difference("site/placed", &[json!(100), json!(110)]),
            difference("held", &[json!(true), json!(false)]),
            difference("x", &[Value::Null, json!(0.25)]),
        ];
        let expected = "               a    bb   change
site/placed  100   110  +10.0 %
held         yes    no
x              -  0.25
";
        assert_eq!(table(&labels, &all, 2), expected);
        assert_eq!(
            table(&labels, &[], 2),
            "no number of their summaries differs\n"
        );
    }
}
