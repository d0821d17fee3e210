//! Does a person who opens a report see one?
//!
//! The twin's tests hold a report's data to account; only a browser can say
//! whether its script draws anything from them. So a small universe is run, and its
//! report opened in a Chromium without a window: the page it ends up with is read
//! back, its console listened to, and a picture of it taken.
//!
//! A listener that hears nothing proves nothing. The same browser is therefore first
//! given a page that must complain.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{answers, command};

/// Names under which a Chromium goes.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// The first Chromium that answers.
pub(crate) fn find() -> Option<&'static str> {
    NAMES.into_iter().find(|name| answers(name, &["--version"]))
}

/// A cell small enough for a build without optimisation that still meets its burst
/// and its partition, which is over after 110 s.
const RUN: &[&str] = &[
    "run",
    "--locked",
    "--quiet",
    "--package",
    "cli",
    "--",
    "twin",
    "run",
    "universes/cell.toml",
    "--quiet",
    "--set",
    "holons.tiles_per_cell=100",
    "--set",
    "time.end=2min",
];

/// Runs a universe, opens its report, and fails with everything wrong with it.
pub(crate) fn check(browser: &str) -> Result<()> {
    let folder = TempDir::new().context("making a temporary folder")?;
    let run = folder.path().join("run");
    let mut cosmos = command("cargo", RUN);
    cosmos.arg("--out").arg(&run);
    println!("$ {}", crate::spelled(&cosmos));
    let status = cosmos.status().context("starting cosmos")?;
    // 1 says that an invariant failed, which is a report worth looking at too.
    ensure!(
        matches!(status.code(), Some(0 | 1)),
        "`{}` ended with {status}",
        crate::spelled(&cosmos)
    );
    let summary = fs::read_to_string(run.join("summary.json")).context("reading summary.json")?;
    let summary: Value = serde_json::from_str(&summary).context("summary.json")?;

    let complains = folder.path().join("complains.html");
    fs::write(&complains, "<script>undefined.anything</script>").context("writing a page")?;
    let (_, _, said) = open(browser, &complains, folder.path())?;
    ensure!(
        said.contains("Uncaught TypeError"),
        "{browser} does not tell what goes wrong in a page"
    );

    let (page, picture, said) = open(browser, &run.join("report.html"), folder.path())?;
    let mut wrong = missing(&page, &summary);
    wrong.extend(complaints(&said).map(|line| format!("the page complained: {line}")));
    wrong.extend(blank(&picture));
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    println!("{browser} showed the report of {}", summary["universe"]);
    Ok(())
}

/// The page as it is after its script ran, a picture of it, and the browser's log.
fn open(browser: &str, page: &Path, folder: &Path) -> Result<(String, Vec<u8>, String)> {
    let [picture, dom, log] = ["page.png", "page.txt", "log.txt"].map(|name| folder.join(name));
    let profile = TempDir::new_in(folder).context("making a profile")?;
    let file = |path| File::create(path).with_context(|| format!("making {path:?}"));
    let mut child = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--window-size=1360,1800",
            "--enable-logging=stderr",
            "--v=0",
            "--virtual-time-budget=5000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("file://{}", page.display()))
        .stdout(file(&dom)?)
        .stderr(file(&log)?)
        .spawn()
        .with_context(|| format!("starting {browser}"))?;
    let mut patience = PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().context("waiting for the browser")? {
            break status;
        }
        if patience.is_zero() {
            child.kill().context("ending the browser")?;
            child.wait().context("waiting for the browser")?;
            bail!("{browser} took longer than {PATIENCE:?}");
        }
        pause();
        patience = patience.saturating_sub(TICK);
    };
    ensure!(status.success(), "{browser} ended with {status}");
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {path:?}"));
    let text = |path| Ok::<_, anyhow::Error>(String::from_utf8_lossy(&read(path)?).into_owned());
    Ok((text(&dom)?, read(&picture)?, text(&log)?))
}

/// A page takes about two seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(50);

#[expect(
    clippy::disallowed_methods,
    reason = "the standard library waits for a process for ever or not at all"
)]
fn pause() {
    thread::sleep(TICK);
}

/// What a page should show of a run and does not.
fn missing(page: &str, summary: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            missing.push(what);
        }
    };
    // The data lies in the page whether or not anything was drawn from them.
    let drawn = page
        .split_once("<main")
        .and_then(|(_, rest)| rest.split_once("</main>"))
        .map_or("", |(drawn, _)| drawn);
    let universe = summary["universe"].as_str().unwrap_or_default();
    must(
        drawn.contains(&format!("<h1>{universe}</h1>")),
        format!("the heading is not {universe:?}"),
    );
    let invariants = summary["invariants"].as_array();
    must(
        invariants.is_some_and(|all| !all.is_empty()),
        "the run judged no invariant".to_owned(),
    );
    for invariant in invariants.into_iter().flatten() {
        let name = invariant["name"].as_str().unwrap_or_default();
        let class = if invariant["held"] == true {
            "good"
        } else {
            "bad"
        };
        must(
            drawn.contains(&format!("class=\"chip {class}\" title=\"{name}\"")),
            format!("no chip says whether {name} held"),
        );
    }
    for chart in ["Temperature", "Heat load", "Clock", "Utilisation"] {
        let plot = drawn
            .split_once(&format!("aria-label=\"{chart} over time\""))
            .and_then(|(_, rest)| rest.split_once("</svg>"))
            .map_or("", |(plot, _)| plot);
        must(
            plot.contains("<path class=\"line\" d=\"M"),
            format!("the chart {chart:?} has no line"),
        );
    }
    must(drawn.contains("<canvas"), "there is no map".to_owned());
    missing
}

/// What a page's console said; a report's says nothing.
fn complaints(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter(|line| line.contains(":CONSOLE"))
}

/// Why a picture shows nothing, if it does not.
fn blank(picture: &[u8]) -> Option<String> {
    let shades = match shades(picture) {
        Ok(shades) => shades,
        Err(error) => return Some(format!("the picture is no PNG: {error}")),
    };
    // An empty page has one colour; text alone on it, smoothed, a few dozen.
    (shades < 200).then(|| format!("the picture has no more than {shades} colours"))
}

/// Different colours in a picture.
fn shades(picture: &[u8]) -> Result<usize, png::DecodingError> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(picture)).read_info()?;
    let mut pixels = vec![0; reader.output_buffer_size().unwrap_or_default()];
    let frame = reader.next_frame(&mut pixels)?;
    let each = frame.line_size / frame.width as usize;
    let seen: BTreeSet<&[u8]> = pixels[..frame.buffer_size()].chunks(each).collect();
    Ok(seen.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(heading: &str, chips: &str, line: &str) -> String {
        let plot = |name| {
            format!(
                "<svg class=\"plot\" aria-label=\"{name} over time\"><path class=\"line\" d=\"{line}\"></svg>"
            )
        };
        let plots = ["Temperature", "Heat load", "Clock", "Utilisation"].map(plot);
        format!(
            "<main id=\"page\"><h1>{heading}</h1>{chips}{}<canvas></canvas></main>{{\"h1\": \"cell\"}}",
            plots.concat()
        )
    }

    #[test]
    fn a_page_that_shows_less_than_its_run_is_noticed() {
        let summary = json!({
            "universe": "cell",
            "invariants": [{ "name": "detection", "held": true }, { "name": "locality", "held": false }],
        });
        let chips = "<li class=\"chip good\" title=\"detection\"></li><li class=\"chip bad\" title=\"locality\"></li>";
        let whole = page("cell", chips, "M1 2L3 4");
        assert_eq!(missing(&whole, &summary), Vec::<String>::new());

        let wrongly_good = chips.replace("bad", "good");
        for (page, says) in [
            (page("", chips, "M1 2"), "the heading is not \"cell\""),
            (
                page("cell", &wrongly_good, "M1 2"),
                "no chip says whether locality held",
            ),
            (
                page("cell", chips, ""),
                "the chart \"Temperature\" has no line",
            ),
            (whole.replace("canvas", "div"), "there is no map"),
            (whole.replace("main", "div"), "the heading is not \"cell\""),
        ] {
            let missing = missing(&page, &summary);
            assert_eq!(missing.first().map(String::as_str), Some(says));
        }
    }

    #[test]
    fn a_console_is_told_from_the_browsers_own_log() {
        let log = "[1:2:ERROR:dbus/bus.cc:405] no bus\n[1:2:INFO:CONSOLE:3] \"Uncaught TypeError\", source: file:///x (3)\n";
        assert_eq!(complaints(log).count(), 1);
    }

    #[test]
    fn a_blank_picture_is_told_from_one_that_shows_something() {
        let picture = |colour: fn(u32) -> u8| {
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, 64, 64);
            encoder.set_color(png::ColorType::Rgb);
            let pixels: Vec<u8> = (0..64 * 64)
                .flat_map(|i| [colour(i), colour(i / 64), 9])
                .collect();
            let mut writer = encoder.write_header().expect("a header");
            writer.write_image_data(&pixels).expect("pixels");
            writer.finish().expect("an end");
            bytes
        };
        assert!(blank(&picture(|_| 255)).is_some());
        assert_eq!(blank(&picture(|i| i as u8)), None);
        assert!(blank(b"no picture").is_some());
    }
}
