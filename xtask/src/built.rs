//! Where is what this tree builds to?
//!
//! One command for all who need an executable of the workspace. It builds with exactly the features that the tests are
//! built with: examples count as tests do when cargo joins features, and without that, or with `--package`, cargo joins
//! others (`serde` without `rc`, say) and builds nearly every dependency once more, WebAssembly's compiler among them.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::{command, stream};

/// Builds what is not built yet, and gives the place of `name`: `cosmos`, or `examples/NAME`.
pub(crate) fn built(name: &str) -> Result<PathBuf> {
    let build = ["build", "--locked", "--workspace", "--bins", "--examples"];
    stream(&mut command("cargo", &build))?;
    let metadata = ["metadata", "--format-version=1", "--no-deps", "--offline"];
    let told = command("cargo", &metadata)
        .output()
        .context("starting cargo metadata")?;
    let told: serde_json::Value =
        serde_json::from_slice(&told.stdout).context("reading what cargo metadata says")?;
    let folder = told["target_directory"]
        .as_str()
        .context("no target directory")?;
    let path = PathBuf::from(folder).join("debug").join(name);
    ensure!(
        path.is_file(),
        "found no {}, expected what was just built",
        path.display()
    );
    Ok(path)
}
