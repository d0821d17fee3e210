//! The tree keeps its own rules. The checkers are shown forged trees at their own feet.

use xtask::architecture::{self, Workspace};
use xtask::{references, root};

/// Fails with one line for each thing found.
#[track_caller]
fn nothing(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_crate_sees_only_the_layers_below_it() {
    let workspace = Workspace::read(root()).unwrap();
    let found = architecture::dependencies(&workspace);
    nothing(found.iter().map(ToString::to_string).collect());
}

#[test]
fn every_core_is_no_std_and_no_library_is_empty() {
    let workspace = Workspace::read(root()).unwrap();
    let found = architecture::contents(&workspace, architecture::sources).unwrap();
    nothing(found.iter().map(ToString::to_string).collect());
}

#[test]
fn every_citation_could_name_a_statement() {
    let mut found = Vec::new();
    let mut citations = 0;
    for (path, text) in references::texts(root()).unwrap() {
        citations += text.matches("//= requirements ").count();
        for (line, citation) in references::malformed_citations(&text) {
            found.push(format!("{}:{line}: {citation}", path.display()));
        }
    }
    nothing(found);
    assert!(citations > 0, "the tree was not read");
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut found = Vec::new();
    let texts = references::texts(root()).unwrap();
    for (path, text) in texts
        .iter()
        .filter(|(path, _)| path.extension() == Some("md".as_ref()))
    {
        let folder = path.parent().unwrap();
        for link in references::relative_links(text) {
            if !folder.join(link).exists() {
                found.push(format!("{}: {link} does not exist", path.display()));
            }
        }
    }
    nothing(found);
}

#[test]
fn every_decision_named_is_on_record() {
    let mut found = Vec::new();
    for (path, text) in references::texts(root()).unwrap() {
        // Its tests name records that never were.
        if path.ends_with("xtask/src/references.rs") {
            continue;
        }
        for record in references::decisions_named(&text) {
            if !root().join(record).exists() {
                found.push(format!("{}: {record} does not exist", path.display()));
            }
        }
    }
    nothing(found);
}
