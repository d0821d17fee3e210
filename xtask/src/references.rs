//! Does what the text refers to exist?
//!
//! Three kinds of reference rot in silence: a statement cited by its number, a
//! relative link in a document, and a decision record named in a comment. The
//! requirements themselves lie outside the repository, so of a citation only the
//! form is held to account.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The letters that number a requirement's chapter.
const CHAPTERS: &str = "UKMHSCNTOAGBWRDP";

/// Folders that hold what is built, not what is written.
const BUILT: [&str; 3] = ["target", "runs", "node_modules"];

/// Files read for references.
const TEXT: [&str; 6] = ["md", "rs", "toml", "tla", "ts", "js"];

/// Every text file of a tree with its contents, in the order of their paths.
/// Hidden folders and what is built are left out.
///
/// # Errors
/// If a file or folder cannot be read.
pub fn texts(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let kind = entry.file_type()?;
            if kind.is_dir() && !name.starts_with('.') && !BUILT.contains(&&*name) {
                folders.push(path);
            } else if kind.is_file()
                && TEXT
                    .iter()
                    .any(|end| path.extension() == Some(end.as_ref()))
            {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                found.push((path, text));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The citations in a text that cannot name anything, with their lines. They
/// cite a requirement (`M1`), or a statement of the crate's own `spec` (`2`).
#[must_use]
pub fn malformed_citations(text: &str) -> Vec<(usize, &str)> {
    (1..)
        .zip(text.lines().map(str::trim))
        .filter(|(_, line)| line.starts_with("//=") && !is_citation(line))
        .collect()
}

fn is_citation(line: &str) -> bool {
    let number = line.strip_prefix("//= spec ").or_else(|| {
        line.strip_prefix("//= requirements ")?
            .strip_prefix(|chapter| CHAPTERS.contains(chapter))
    });
    number.is_some_and(|number| {
        let counts_from_one = number.starts_with(|c| ('1'..='9').contains(&c));
        counts_from_one && number.chars().all(|c| c.is_ascii_digit())
    })
}

/// The relative targets of a Markdown text's links, without their fragments.
/// Code is not prose: fences and inline code are passed over.
#[must_use]
pub fn relative_links(markdown: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        // Outside inline code are the even pieces between backticks; a link's
        // text may itself be code, its target may not.
        for prose in line.split('`').step_by(2) {
            let inline = prose.split("](").skip(1).filter_map(|rest| {
                let end = rest.find([')', ' '])?;
                Some(&rest[..end])
            });
            let defined = prose
                .strip_prefix('[')
                .and_then(|rest| rest.split_once("]: "))
                .map(|(_, target)| target.trim());
            found.extend(inline.chain(defined));
        }
    }
    found
        .into_iter()
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
        .collect()
}

/// The decision records a text names by their path from the root.
#[must_use]
pub fn decisions_named(text: &str) -> Vec<&str> {
    let folder = "docs/decisions/";
    text.match_indices(folder)
        .filter_map(|(at, _)| {
            let rest = &text[at..];
            let stops = |c: char| !c.is_ascii_alphanumeric() && !"-./_".contains(c);
            let named = &rest[..rest.find(stops).unwrap_or(rest.len())];
            let named = named.trim_end_matches('.');
            named.ends_with(".md").then_some(named)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_citation_names_a_chapter_and_a_number() {
        let good =
            "//= requirements M1\n  //= requirements H12\n//= spec 3\n// = prose\nf(); //= c";
        assert_eq!(malformed_citations(good), []);
        for bad in [
            "//= requirements X9",
            "//= requirements M",
            "//= requirements M0",
            "//= requirements M1 M2",
            "//= requirements m1",
            "//= requirement M1",
            "//=requirements M1",
            "//= spec",
            "//= spec M1",
        ] {
            let text = format!("fn f() {{}}\n  {bad}\n");
            assert_eq!(malformed_citations(&text), [(2, bad)]);
        }
    }

    #[test]
    fn links_are_found_in_prose_and_not_in_code() {
        let markdown = "\
See [one](a.md), [two](b/c.md#part \"title\") and [`three`](d.rs).
[ref]: e.md
Not [web](https://example.org), [here](#part), `[code](f.md)`.
```
[fenced](g.md)
```
";
        assert_eq!(relative_links(markdown), ["a.md", "b/c.md", "d.rs", "e.md"]);
    }

    #[test]
    fn decisions_are_found_in_comments() {
        let text = "// why: docs/decisions/2026-11-21-a.md.\n# (docs/decisions/2026-11-21-b.md)\n\
                    docs/decisions/ is a folder";
        assert_eq!(
            decisions_named(text),
            [
                "docs/decisions/2026-11-21-a.md",
                "docs/decisions/2026-11-21-b.md"
            ]
        );
    }
}
